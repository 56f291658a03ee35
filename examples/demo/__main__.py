"""``python -m examples.demo``."""

import os
import signal
import sys


def main() -> int:
    """Run the demo; a Ctrl-C during its imports ends it without a traceback."""
    signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
    from examples.demo.run import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())

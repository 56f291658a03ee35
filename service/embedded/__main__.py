"""``python -m service.embedded``: run the stack until Ctrl-C, SIGTERM or the parent's death."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from cuvee.errors import CuveeError
from service.embedded.stack import EmbeddedStack

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m service.embedded",
        description="Run the whole service on this machine, from wheels, on 127.0.0.1.",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        default=Path(os.environ.get("CUVEE_DATA_DIR", ".cuvee")),
        help="database, corpora, checkpoints, logs (default: $CUVEE_DATA_DIR or .cuvee)",
    )
    parser.add_argument("--port", type=int, default=8321, help="of the API; 0: any (default 8321)")
    parser.add_argument("--train-workers", type=int, help="runs trained at once (default: 2)")
    parser.add_argument("--threads", type=int, help="per worker (default: CPUs / train workers)")
    parser.add_argument("--log-dir", type=Path, help="default: DATA_DIR/logs")
    parser.add_argument(
        "--outlive-parent", action="store_true", help="keep running when the parent process ends"
    )
    return parser.parse_args()


def main() -> int:
    """Exit status: 0 after a stop that was asked for, 1 if the stack could not start."""
    arguments = _arguments()
    parent = None if arguments.outlive_parent else os.getppid()
    # Waited for below rather than handled: no handler can run in the middle of anything, and the
    # threads started from here inherit the mask.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    stack = EmbeddedStack(
        arguments.data_dir,
        port=arguments.port,
        train_workers=arguments.train_workers,
        threads=arguments.threads,
        log_dir=arguments.log_dir,
    )
    stack.begin()
    announced = False
    while stack.running:
        if stack.url and not announced:
            sys.stdout.write(f"{stack.url}\nlogs in {stack.log_dir}, Ctrl-C to stop\n")
            sys.stdout.flush()
            announced = True
        orphaned = parent is not None and os.getppid() != parent
        if signal.sigtimedwait(_STOP_SIGNALS, 0.1) or orphaned:
            stack.request_stop()
    try:
        stack.finish()
    except CuveeError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

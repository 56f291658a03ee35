"""The command line as a process of its own, which a test may interrupt."""

from __future__ import annotations

__all__ = ["CUVEE"]

# A suite that runs in the background inherits that interrupts are ignored, and so would this.
CUVEE = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from cuvee.cli import main
main()
"""

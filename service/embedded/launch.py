"""Become another program, one that dies with the process that asked for it.

``python -I -S launch.py PARENT SIGNAL USER PROGRAM [ARGUMENT ...]``

A separate little program rather than ``preexec_fn``: it runs single-threaded, so nothing it does
can deadlock on a lock that another thread held at the fork. It loads nothing but the standard
library, without site-packages, which keeps it near 20 ms.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAP_DAC_OVERRIDE = 1
_CAPABILITY_VERSION_3 = 0x20080522

_LINUX = sys.platform.startswith("linux")


def _become(user: str) -> None:
    """Change from root to ``user``, and keep being allowed to walk through any folder.

    The data and the binaries may be below a folder that is closed to others, such as ``/root``.
    One capability is kept for that, rather than opening the administrator's folders to everybody.
    """
    entry = pwd.getpwnam(user)
    libc = ctypes.CDLL(None)
    if _LINUX:
        libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    if _LINUX:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        kept = 1 << _CAP_DAC_OVERRIDE
        sets = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)  # effective, permitted, inherited
        libc.capset(header, sets)
        libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _die_with(parent: int, signum: int) -> None:
    """Ask the kernel for ``signum`` when ``parent`` dies (Linux; elsewhere the stack cleans up)."""
    if not _LINUX:
        return
    # After the change of user: the kernel clears the request when credentials change.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
    if os.getppid() != parent:  # it died before the request
        sys.exit(1)


def main(arguments: list[str]) -> None:
    parent, signum, user, *command = arguments
    if user != "-":
        _become(user)
    # The stack's main thread blocks signals to wait for them; its children must not.
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for inherited in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(inherited, signal.SIG_DFL)
    _die_with(int(parent), int(signum))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])

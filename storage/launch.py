"""Becomes the PostgreSQL server: drops root, ties its life to the daemon's and execs; imports nothing of ours.

Run as a script, `python -I -S launch.py PARENT UID GID PROGRAM ARGUMENT…`; a UID of -1 keeps the present user.
A preexec_fn could do the same, but it runs Python between fork and exec, which can deadlock once other threads exist.
"""

import ctypes
import os
import signal
import sys

# No PG* of the daemon's environment reaches the server, nor a library path that would replace the wheel's libpq.
CLEAN_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}

_PR_SET_PDEATHSIG = 1


def main(parent: int, uid: int, gid: int, *command: str) -> None:
    if uid != -1:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        # After setuid, which clears it. SIGINT is PostgreSQL's fast shutdown.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
    if os.getppid() != parent:  # the daemon died before the signal was asked for
        sys.exit(1)
    os.chdir("/")
    os.execve(command[0], command, CLEAN_ENVIRONMENT)  # noqa: S606 - no shell is what we want


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])

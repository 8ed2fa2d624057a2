"""Run a program that dies with the process that asked for it, even by SIGKILL.

Started as `python -I -S _bound.py PARENT_PID PROGRAM ARGUMENT...`; it becomes the program. Being a
program of its own, it needs no code between fork and exec of a process that has threads.
"""

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_SECONDS = 0.2


def bind_by_kernel(parent: int) -> None:
    """Have Linux kill this process when the thread that started it ends; see prctl(2)."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the parent ended before the program began")


def bind_by_watcher(parent: int) -> None:
    """Leave a child behind that kills this process when the parent is gone: for other systems."""
    program = os.getpid()
    if os.fork() != 0:
        return
    while os.getppid() == program:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(program, signal.SIGKILL)
        time.sleep(POLL_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    bind = bind_by_kernel if sys.platform == "linux" else bind_by_watcher
    bind(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the caller's own program, no shell wanted

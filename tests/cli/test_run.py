"""What a process that runs until it is ended sets for itself."""

import platform
import subprocess
import sys

import pytest
from tests.harness import clean_environment

THREADS = """
import ctypes, threading
from recollect_server.cli.run import share_arenas

share_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fdopen.restype = ctypes.c_void_p
together = threading.Barrier(8)


def allocate():
    together.wait()
    libc.malloc(ctypes.c_size_t(1000))
    together.wait()


threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_info(0, ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(None)
"""


def _arenas(**environment: str) -> int:
    """Return how many arenas eight threads allocate from."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS],
        env=clean_environment(**environment),
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout.count("<heap")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have no arenas")
def test_threads_share_two_arenas_unless_the_environment_says_how_many():
    assert _arenas() == 2
    assert _arenas(MALLOC_ARENA_MAX="5") == 5

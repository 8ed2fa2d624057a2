"""What a process that runs until it is ended asks of glibc."""

import platform
import subprocess
import sys

import pytest
from tests.harness import clean_environment

THREADS = """
import ctypes, threading
from recollect_server.cli.allocator import keep_little

keep_little()
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


END = """
import ctypes, threading
from pathlib import Path
from recollect_server.cli.allocator import keep_little


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def use(libc):
    # Freed, a block of this size lets glibc keep twice as much at the end of an arena.
    for size in (30 << 20, *[1 << 20] * 25):
        block = libc.malloc(size)
        libc.memset(block, 1, size)
        if size == 30 << 20:
            libc.free(block)
        else:
            blocks.append(block)
    for block in blocks:
        libc.free(block)


keep_little()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
blocks = []
begun = resident()
thread = threading.Thread(target=use, args=(libc,))
thread.start()
thread.join()
print(resident() - begun)
"""

HOLES = """
import random, time
from pathlib import Path
from recollect_server.cli.allocator import return_memory


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


begun = resident()
blocks = [bytes(random.randrange(8_000, 16_000)) for _ in range(8_000)]
full = resident() - begun
random.shuffle(blocks)
del blocks[2_000:]
kept = resident() - begun
return_memory(0.05)
deadline = time.monotonic() + 30
while resident() - begun > 0.6 * full and time.monotonic() < deadline:
    time.sleep(0.05)
print(kept / full, (resident() - begun) / full)
"""

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other libraries are left as they are"
)


def test_pages_that_are_free_between_others_go_back_to_the_system():
    done = subprocess.run(
        [sys.executable, "-c", HOLES],
        env=clean_environment(), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    before, after = map(float, done.stdout.split())
    assert before > 0.8
    assert after < 0.6


def test_the_end_of_an_arena_goes_back_to_the_system():
    def kept(**environment: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", END],
            env=clean_environment(**environment),
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        return float(done.stdout)

    assert kept() < 12
    assert kept(MALLOC_TRIM_THRESHOLD_=str(64 << 20)) > 20


def test_threads_share_two_arenas_unless_the_environment_says_how_many():
    assert _arenas() == 2
    assert _arenas(MALLOC_ARENA_MAX="5") == 5

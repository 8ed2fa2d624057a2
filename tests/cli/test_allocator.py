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


RESIDENT = """
from pathlib import Path


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20
"""

END = """
import ctypes, threading
from recollect_server.cli.allocator import keep_little


def allocate(libc, size):
    return libc.memset(libc.malloc(size), 1, size)


def use(libc):
    # Freed, a block of this size lets glibc keep twice as much at the end of an arena.
    libc.free(allocate(libc, 30 << 20))
    for block in [allocate(libc, 1 << 20) for _ in range(25)]:
        libc.free(block)


keep_little()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.memset.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
begun = resident()
thread = threading.Thread(target=use, args=(libc,))
thread.start()
thread.join()
print(resident() - begun)
"""

HOLES = """
import random, time
from recollect_server.cli.allocator import return_memory


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


def _printed(script: str, **environment: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", script],
        env=clean_environment(**environment),
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


def test_pages_that_are_free_between_others_go_back_to_the_system():
    before, after = map(float, _printed(RESIDENT + HOLES).split())
    assert before > 0.8
    assert after < 0.6


def test_the_end_of_an_arena_goes_back_to_the_system():
    assert float(_printed(RESIDENT + END)) < 12
    assert float(_printed(RESIDENT + END, MALLOC_TRIM_THRESHOLD_=str(64 << 20))) > 20


def test_threads_share_two_arenas_unless_the_environment_says_how_many():
    assert _printed(THREADS).count("<heap") == 2
    assert _printed(THREADS, MALLOC_ARENA_MAX="5").count("<heap") == 5

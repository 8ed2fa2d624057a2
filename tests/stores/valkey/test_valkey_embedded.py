"""The embedded server: it comes up, stays up, and leaves nothing behind however we end."""

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import valkey
from structlog.testing import capture_logs
from tests.stores.valkey.valkey_server import alive, client_of, eventually, wait_until

from recollect_server.errors import Unavailable
from recollect_server.stores.valkey import _bound
from recollect_server.stores.valkey.embedded import (
    MAX_SOCKET_PATH,
    EmbeddedStartError,
    EmbeddedValkey,
)

HOST = """
import asyncio, sys, time
from pathlib import Path
from recollect_server.stores.valkey.embedded import EmbeddedValkey

async def main() -> None:
    server = EmbeddedValkey(Path(sys.argv[1]))
    await server.start()
    print(server.pid, flush=True)
    if sys.argv[2] == "raise":
        raise ValueError
    await asyncio.Event().wait()

if sys.argv[3] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""

WATCHED = """
import sys, time
sys.path.insert(0, sys.argv[1])
import _bound
_bound.bind_by_watcher(int(sys.argv[2]))
print("watched", flush=True)
time.sleep(60)
"""

PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2], str(os.getpid())],
                         stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


def processes_of(folder: Path) -> list[int]:
    """Ids of living processes with the folder in their command or title."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdecimal() else b""
        except (FileNotFoundError, ProcessLookupError):
            continue
        if os.fsencode(folder) in command and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return found


async def answers(url: str) -> bool:
    async with client_of(url) as client:
        try:
            await client.ping()
        except Unavailable:
            return False
    return True


async def test_it_answers_when_start_returns_and_stop_leaves_nothing(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "new" / "data dir")
    await server.start()
    assert await answers(server.url)
    assert server.pid is not None
    pid = server.pid
    await server.stop()
    await server.stop()
    assert not alive(pid)
    assert server.pid is None
    assert processes_of(tmp_path) == []
    assert sorted(p.name for p in (tmp_path / "new" / "data dir").iterdir()) == [
        "valkey.lock",
        "valkey.log",
    ]


async def test_it_starts_again_after_a_stop(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    for _ in range(2):
        async with server:
            assert await answers(server.url)


async def test_it_is_bounded_keeps_nothing_and_has_no_port(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path, max_memory=64 << 20) as server:
        with valkey.Valkey(unix_socket_path=str(tmp_path / "valkey.sock")) as admin:
            settings = admin.config_get("*")
            assert settings["maxmemory"] == str(64 << 20)
            assert settings["maxmemory-policy"] == "volatile-lru"
            assert (settings["save"], settings["appendonly"]) == ("", "no")
            assert settings["port"] == "0"
        assert stat.S_IMODE((tmp_path / "valkey.sock").stat().st_mode) == 0o700
        assert "Ready to accept connections" in server.log_path.read_text()
        assert server.pid is not None
        assert os.getsid(server.pid) != os.getsid(0)


async def test_a_full_memory_drops_keys_that_expire_and_no_others(tmp_path: Path) -> None:
    async with (
        EmbeddedValkey(tmp_path, max_memory=8 << 20) as server,
        client_of(server.url) as client,
    ):
        await client.set("kept", b"1")
        for number in range(400):
            await client.set(f"cached {number}", b"x" * 50_000, px=60_000)
        assert await client.get("kept") == b"1"
        held = [await client.get(f"cached {number}") is not None for number in range(400)]
        assert 0 < sum(held) < 200


async def test_a_long_data_dir_gets_a_private_socket_that_goes_with_the_server(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / ("long " * 20) / ("name " * 20)
    async with EmbeddedValkey(data_dir) as server:
        path = Path(server.url.removeprefix("valkey+unix://"))
        assert await answers(server.url)
        assert len(os.fsencode(path)) <= MAX_SOCKET_PATH
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert server.log_path.is_relative_to(data_dir)
    assert not path.parent.exists()


async def test_two_servers_of_two_data_dirs_hold_different_data(tmp_path: Path) -> None:
    async with (
        EmbeddedValkey(tmp_path / "a") as one,
        EmbeddedValkey(tmp_path / "b") as two,
        client_of(one.url) as first,
        client_of(two.url) as second,
    ):
        await first.set("k", b"1")
        assert await second.get("k") is None


async def test_a_second_server_of_one_data_dir_is_refused_and_the_first_stays(
    tmp_path: Path,
) -> None:
    async with EmbeddedValkey(tmp_path) as first, client_of(first.url) as client:
        await client.set("k", b"1")
        with pytest.raises(EmbeddedStartError, match="another process runs an embedded Valkey"):
            await EmbeddedValkey(tmp_path).start()
        with pytest.raises(RuntimeError, match="started already"):
            await first.start()
        assert await client.get("k") == b"1"
    async with EmbeddedValkey(tmp_path) as second:
        assert await answers(second.url)


async def test_a_killed_server_is_started_again_at_the_same_url(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as server, client_of(server.url) as client:
        for _ in range(3):
            await client.set("k", b"1")
            killed = server.pid
            assert killed is not None
            with capture_logs() as logs:
                os.kill(killed, signal.SIGKILL)

                async def renewed(killed: int = killed) -> bool:
                    return server.pid not in (None, killed)

                await eventually(renewed)
            assert await client.get("k") is None
            assert logs[0]["event"] == "embedded Valkey ended, starting it again"
            assert logs[0]["code"] == -signal.SIGKILL


async def test_stop_while_the_server_is_being_started_again_leaves_nothing(tmp_path: Path) -> None:
    for pause in (0.0, 0.04, 0.06, 0.08, 0.1):
        server = EmbeddedValkey(tmp_path)
        await server.start()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        await asyncio.sleep(pause)
        await server.stop()
        assert processes_of(tmp_path) == []


async def test_a_frozen_server_is_stopped(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    await server.start()
    assert server.pid is not None
    os.kill(server.pid, signal.SIGSTOP)
    await server.stop()
    assert processes_of(tmp_path) == []


async def test_a_server_that_ends_at_once_is_an_error_that_names_the_log(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path, max_memory=-1)
    with pytest.raises(EmbeddedStartError, match=r"ended at once with code 1; see .*valkey\.log"):
        await server.start()
    assert "maxmemory" in (tmp_path / "valkey.log").read_text()
    async with EmbeddedValkey(tmp_path) as server:
        assert await answers(server.url)


async def test_a_server_that_is_too_slow_is_an_error_and_gone(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedStartError, match=r"did not answer within 0\.005 s"):
        await EmbeddedValkey(tmp_path, start_timeout=0.005).start()
    assert processes_of(tmp_path) == []


async def test_a_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    for pause in (0.0, 0.005, 0.02, 0.04):
        task = asyncio.create_task(EmbeddedValkey(tmp_path).start())
        await asyncio.sleep(pause)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert processes_of(tmp_path) == []


async def test_there_is_no_url_before_the_start(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="before it is started"):
        _ = EmbeddedValkey(tmp_path).url


def start_host(data_dir: Path, end: str, loop: str) -> tuple[subprocess.Popen[str], int]:
    """Start a process that runs an embedded server; return it and the server's id."""
    host = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", HOST, str(data_dir), end, loop],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert host.stdout is not None
    for line in host.stdout:
        if line.strip().isdecimal():
            return host, int(line)
    raise AssertionError(host.communicate()[1])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_the_server_dies_with_a_killed_parent_and_its_data_dir_is_free_again(
    tmp_path: Path, loop: str
) -> None:
    host, pid = start_host(tmp_path, "wait", loop)
    with host:
        assert alive(pid)
        host.kill()
        # Started at once, while the old server may still be dying.
        async with EmbeddedValkey(tmp_path) as server:
            assert await answers(server.url)
    wait_until(lambda: not alive(pid))
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_server_ends_with_a_loop_that_ends_without_stop(tmp_path: Path, loop: str) -> None:
    host, pid = start_host(tmp_path, "raise", loop)
    with host:
        _, errors = host.communicate(timeout=20)
    assert host.returncode == 1
    assert errors.rstrip().endswith("ValueError")
    assert "ResourceWarning" not in errors
    assert not alive(pid)


def test_where_the_kernel_does_not_help_a_watcher_ends_the_program() -> None:
    arguments = [sys.executable, "-c", PARENT, WATCHED, str(Path(_bound.__file__).parent)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        assert len(children) == 1
        watcher = int(children[0])
        parent.kill()
        parent.wait()
    wait_until(lambda: not alive(pid) and not alive(watcher))

"""What is acknowledged is on disk: the system calls of a process that writes, in their order."""

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.stores.sql.support import Stores, start_writer

from recollect_server.stores.sql.sqlite import SqliteDatabase

FETCHED = Path(__file__).parents[3] / ".tools" / "debian"
COUNT = 240

_CALL = re.compile(r"^(\d+) +(?:<\.\.\. )?(\w+)(?:\(| resumed)")
_TEXT = re.compile(r"w-\d{6}")


def _strace() -> tuple[str, ...]:
    """Return how strace is called, or skip; in CI it must be there."""
    if shutil.which("strace"):
        return ("strace",)
    if (program := FETCHED / "usr" / "bin" / "strace").exists():
        folders = [*FETCHED.glob("usr/lib/*-linux-*"), *FETCHED.glob("lib/*-linux-*")]
        libraries = ":".join(str(folder) for folder in folders)
        # The writer itself must not get these libraries.
        return ("env", f"LD_LIBRARY_PATH={libraries}", str(program), "-E", "LD_LIBRARY_PATH")
    if os.environ.get("CI") == "true":
        pytest.fail("`make tools` must install strace in CI")
    pytest.skip("needs strace: `make tools` with apt-get")


@dataclass
class Trace:
    """Positions of calls that completed, in the order of the trace.

    Attributes:
        written: of the first write to the write-ahead log that holds a text.
        synced: of the log's syncs, from a call's start to its end.
        acknowledged: of the line that says a text is durable.
    """

    written: dict[str, int]
    synced: list[tuple[int, int]]
    acknowledged: dict[str, int]


def _parse(lines: list[str]) -> Trace:
    trace = Trace({}, [], {})
    started: dict[str, int] = {}
    for position, line in enumerate(lines):
        if (call := _CALL.match(line)) is None:
            continue
        process, name = call.groups()
        if name in ("pwrite64", "write") and "-wal>" in line:
            for text in _TEXT.findall(line):
                trace.written.setdefault(text, position)
        elif name == "write" and "write(1<" in line:
            trace.acknowledged[_TEXT.findall(line)[0]] = position
        elif name in ("fdatasync", "fsync"):
            if "-wal>" in line:
                started[process] = position
            if process in started and "= 0" in line:
                trace.synced.append((started.pop(process), position))
    return trace


async def _traced(path: Path, tmp_path: Path, synchronous: str) -> Trace:
    strace = _strace()
    database = SqliteDatabase(path)
    await Stores(database).session()
    await database.close()
    log = tmp_path / "trace"
    calls = "trace=write,pwrite64,fsync,fdatasync"
    wrapper = (*strace, "-f", "-y", "-s", "20000", "-e", calls, "-o", str(log))
    writer = start_writer(path, "w", COUNT, synchronous, wrapper=wrapper)
    said, _ = writer.communicate()
    assert writer.returncode == 0
    assert len(said.splitlines()) == COUNT
    trace = _parse(log.read_text().splitlines())
    assert len(trace.acknowledged) == len(trace.written) == COUNT
    return trace


async def test_a_write_is_synced_before_it_is_acknowledged_and_many_share_a_sync(path, tmp_path):
    trace = await _traced(path, tmp_path, "FULL")
    for text, acknowledged in trace.acknowledged.items():
        assert any(
            trace.written[text] < start <= end < acknowledged for start, end in trace.synced
        ), f"{text} was acknowledged before it was synced"
    assert len(trace.synced) < COUNT / 2


async def test_relaxed_durability_does_not_sync_each_commit(path, tmp_path):
    trace = await _traced(path, tmp_path, "NORMAL")
    assert all(trace.written[text] < position for text, position in trace.acknowledged.items())
    assert len(trace.synced) < COUNT / 40

"""Whatever is sent, a server answers it with an error that says what is wrong, and goes on.

RECOLLECT_FUZZ_INPUTS is the number of inputs, RECOLLECT_FUZZ_SEED chooses them. docs/fuzzing.md
says what is sent and what was found.
"""

import asyncio
import os
import time
from collections import Counter
from contextlib import suppress
from random import SystemRandom

import pytest
from tests.fuzz.fuzzer import Fuzzer, Memory
from tests.fuzz.target import FIXED
from tests.harness import RunningServer

from recollect import AsyncRecollect, errors

INPUTS = int(os.environ.get("RECOLLECT_FUZZ_INPUTS", "6000"))
SEED = int(os.environ.get("RECOLLECT_FUZZ_SEED") or SystemRandom().randrange(10**6))
LONG = 200_000
"""Inputs from which on growth can be told from warming up."""

SAY_SECONDS = 120.0

MOST_GROWTH = 4.0
"""MiB for 100,000 inputs: much less than a leak of 100 bytes for each."""

# Small, so that what is kept of what was sent soon stops growing.
SMALL = {
    "RECOLLECT_EPISODE_IDLE_SECONDS": "2",
    "RECOLLECT_INDEX_BYTES": str(8 * 2**20),
    "RECOLLECT_WINDOW_BYTES": str(2 * 2**20),
    "RECOLLECT_MIRROR_BYTES": str(8 * 2**20),
    "RECOLLECT_VALKEY_BYTES": str(64 * 2**20),
}


async def _ask(client: AsyncRecollect, number: int) -> None:
    """What any client asks, which must be answered as if nothing had happened."""
    session = await client.memory.create_session()
    text = f"The museum opens at {number}."
    await client.memory.append_messages(session.session_id, [text])
    found = [m async for m in client.memory.list_messages(session.session_id)]
    assert [m.parts[0].text for m in found] == [text]
    await client.memory.delete_session(session.session_id)


async def _create_sessions(client: AsyncRecollect) -> None:
    """Create what requests name and some have deleted."""
    for user in FIXED["user_id"]:
        for session in FIXED["session_id"]:
            with suppress(errors.AlreadyExists):
                await client.memory.create_session(session_id=session, user_id=user)


async def test_any_input_is_answered_and_nothing_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    with RunningServer("--log-level", "warning", environment=SMALL) as server:
        fuzzer, memory = Fuzzer(server.address, SEED), Memory(server.pid)
        said = [time.monotonic()]
        async with server.async_client("valid") as client:

            async def look() -> None:
                await _ask(client, fuzzer.sent)
                await _create_sessions(client)
                if time.monotonic() > said[-1] + SAY_SECONDS:
                    said.append(time.monotonic())
                    _say(capsys, _progress(fuzzer, memory))

            await _create_sessions(client)
            watching = asyncio.create_task(memory.watch(lambda: fuzzer.sent))
            await fuzzer.run(INPUTS, look)
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        _say(capsys, _progress(fuzzer, memory))
        _say(capsys, f"{_codes(fuzzer)}; answered OK: {_served(fuzzer)}")
        assert not fuzzer.violations, f"seed {SEED}\n{fuzzer.report()}\n{server.log}"
        assert "Traceback" not in server.log, server.log[-20_000:]
        assert "unexpected exception" not in server.log
        if INPUTS >= LONG:
            assert memory.growth()[1] < MOST_GROWTH, memory.samples
            assert not _never_reached(fuzzer)
        assert server.stop() == 0


def _progress(fuzzer: Fuzzer, memory: Memory) -> str:
    seconds = time.monotonic() - memory.started
    (_, first), (_, last) = memory.samples[0], memory.samples[-1]
    grown, slope = memory.growth()
    wrong = ", ".join(f"{method} {what[:60]}" for method, what in fuzzer.violations)
    return (
        f"fuzzing with seed {SEED}: {fuzzer.sent} inputs, {fuzzer.sent / seconds:.0f} a second, "
        f"violations: {wrong or 'none'}; {first:.0f} MiB kept at first, {last:.0f} MiB "
        f"now, {grown:+.1f} MiB in the second half, {slope:+.2f} MiB for 100,000 inputs"
    )


def _codes(fuzzer: Fuzzer) -> str:
    total: Counter[str] = Counter()
    for (_, code), count in fuzzer.codes.items():
        total[code] += count
    return ", ".join(f"{code} {count}" for code, count in total.most_common())


def _served(fuzzer: Fuzzer) -> str:
    """Return how often each method was answered OK."""
    good = {name: count for (name, code), count in fuzzer.codes.items() if code == "OK"}
    return ", ".join(f"{name} {count}" for name, count in sorted(good.items()))


def _never_reached(fuzzer: Fuzzer) -> set[str]:
    """Return the methods of which every input was refused before it came to a store."""
    refused = ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")
    reached = {name for name, code in fuzzer.codes if code not in refused}
    return {name for name, _ in fuzzer.codes} - reached


def _say(capsys: pytest.CaptureFixture[str], line: str) -> None:
    with capsys.disabled():
        print(f"\n{line}", end="", flush=True)

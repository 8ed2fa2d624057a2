"""A running turn: its readers, and how a slow one holds it back."""

import asyncio
from contextlib import aclosing

import pytest

from recollect_server.chat.model import BlockKind, Delta
from recollect_server.chat.running import AHEAD, GO_ON, RunningTurn
from recollect_server.errors import Reason, Unavailable

LONG = 4 * AHEAD


def _say(run: RunningTurn, number: int) -> None:
    run.emit(Delta(0, BlockKind.TEXT, str(number)))


async def _produce(run: RunningTurn, count: int = LONG) -> None:
    for number in range(count):
        await run.room()
        _say(run, number)
    run.end()


async def _settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_slow_reader_holds_the_model_back_and_gets_everything():
    run = RunningTurn(b"")
    async with aclosing(run.events()) as events:
        producing = asyncio.create_task(_produce(run))
        seen = [await anext(events)]
        await _settle()
        assert run.last_sequence <= AHEAD + 1
        for _ in range(AHEAD):
            seen.append(await anext(events))
        await _settle()
        assert AHEAD + 1 < run.last_sequence <= 2 * AHEAD + 1
        seen += [event async for event in events]
    await producing
    assert [event.sequence for event in seen] == list(range(1, LONG + 1))


async def test_a_model_that_was_held_back_goes_on_for_many_events_at_a_time():
    run = RunningTurn(b"")
    async with aclosing(run.events()) as events:
        producing = asyncio.create_task(_produce(run))
        await anext(events)
        await _settle()
        said = run.last_sequence
        for _ in range(AHEAD - GO_ON - 1):
            await anext(events)
        await _settle()
        assert run.last_sequence == said
        for _ in range(2):
            await anext(events)
        await _settle()
        assert run.last_sequence >= said + AHEAD - GO_ON
    await producing


async def test_a_slow_reader_does_not_hold_back_a_fast_one():
    run = RunningTurn(b"")
    async with aclosing(run.events()) as slow:
        fast = asyncio.create_task(_all(run))
        producing = asyncio.create_task(_produce(run))
        await anext(slow)
        async with asyncio.timeout(10):
            assert len(await fast) == LONG
            await producing


async def test_a_turn_that_nobody_reads_goes_on():
    run = RunningTurn(b"")
    events = run.events()
    producing = asyncio.create_task(_produce(run))
    await anext(events)
    await _settle()
    assert not producing.done()
    await events.aclose()
    async with asyncio.timeout(10):
        await producing
    assert run.last_sequence == LONG


async def _all(run: RunningTurn, after: int = 0) -> list:
    async with aclosing(run.events(after)) as events:
        return [event async for event in events]


async def test_readers_begin_anywhere_and_get_the_error_after_the_last_event():
    run = RunningTurn(b"")
    for number in range(5):
        _say(run, number)
    run.end(Unavailable(Reason.MODEL_UNAVAILABLE, "down", 1.0))
    seen = []

    async def read() -> None:
        async for event in run.events(3):
            seen.append(event.sequence)

    with pytest.raises(Unavailable):
        await read()
    assert seen == [4, 5]


async def test_a_turn_that_starts_over_is_read_from_its_start():
    run = RunningTurn(b"")
    _say(run, 1)
    async with aclosing(run.events()) as events:
        assert (await anext(events)).happening.text == "1"
        run.restart()
        _say(run, 2)
        run.end()
        assert [(e.sequence, e.happening.text) async for e in events] == [(1, "2")]

"""The gate: calls about a user who is erased are kept away, and end if they are under way."""

import asyncio

import pytest

from recollect_server.admin.gate import Gate
from recollect_server.errors import Aborted
from recollect_server.scope import Scope
from recollect_server.stores.sql.users import being_erased

ADA, BOB = Scope("t", "ada"), Scope("t", "bob")


async def _call(gate: Gate, scope: Scope, started: asyncio.Event, ended: asyncio.Event) -> str:
    with gate.passing(scope):
        started.set()
        await ended.wait()
        return "answer"


async def test_calls_about_one_user_end_and_about_others_go_on():
    gate, started, ended = Gate(being_erased), asyncio.Event(), asyncio.Event()
    adas = [asyncio.create_task(_call(gate, ADA, started, ended)) for _ in range(3)]
    bobs = asyncio.create_task(_call(gate, BOB, started, ended))
    await started.wait()
    await asyncio.sleep(0)
    gate.close_for({ADA})
    for task in adas:
        with pytest.raises(Aborted):
            await task
    with pytest.raises(Aborted), gate.passing(ADA):
        pass
    ended.set()
    assert await bobs == "answer"


async def test_a_call_that_its_caller_cancels_is_cancelled():
    gate, started, ended = Gate(being_erased), asyncio.Event(), asyncio.Event()
    task = asyncio.create_task(_call(gate, ADA, started, ended))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_closing_again_and_opening():
    gate = Gate(being_erased)
    gate.close_also_for(ADA)
    gate.close_also_for(BOB)
    with pytest.raises(Aborted), gate.passing(ADA):
        pass
    gate.open_for(ADA)
    with gate.passing(ADA):
        pass
    gate.close_for(set())
    with gate.passing(BOB):
        pass


async def test_a_task_goes_on_after_its_refusal():
    gate, started = Gate(being_erased), asyncio.Event()

    async def call() -> str:
        try:
            with gate.passing(ADA):
                started.set()
                await asyncio.sleep(60)
        except Aborted:
            # The cancellation is spent: the task may wait again, as to send its answer.
            await asyncio.sleep(0)
            return "told"
        return "not ended"

    task = asyncio.create_task(call())
    await started.wait()
    gate.close_for({ADA})
    gate.close_for({ADA})
    assert await task == "told"
    assert task.cancelling() == 0

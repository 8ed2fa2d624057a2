"""A clock that was hours ahead is put right: what it put off does not wait for hours."""

from datetime import timedelta

from tests.stores.sql.support import ADA, MODEL, message, request

from recollect_server.chat.model import TurnStart, TurnState
from recollect_server.chat.ports import HeldTurn
from recollect_server.memory.due import JobKind
from recollect_server.memory.model import NewFact
from recollect_server.stores.sql.clock import GRACE

AHEAD = timedelta(hours=5)
LEASE = 15.0
KINDS = (JobKind.EPISODE,)


async def _put_right(stores) -> None:
    """Set the clock back, see to what is due, and wait for those who are alive to say so."""
    stores.clock.now -= AHEAD
    await stores.upkeep.run_upkeep()


def _pass(stores) -> None:
    stores.clock.move(seconds=GRACE / 1e6 + 1)


async def _cleared(stores) -> None:
    """Make a session with an episode to make."""
    await stores.session()
    await stores.append("x")
    await stores.sessions.clear_session(ADA, "s")


async def test_work_that_was_queued_by_a_clock_ahead_is_done_by_the_right_one(stores):
    stores.clock.now += AHEAD
    await _cleared(stores)
    await stores.facts.remember(ADA, [NewFact("f")], None)
    await _put_right(stores)
    _pass(stores)
    assert await stores.jobs.lease_job(KINDS)
    assert await stores.queue.lease_embedding(MODEL, 9)


async def test_a_job_that_is_at_work_meanwhile_stays_its_worker_s(stores, other):
    await _cleared(stores)
    stores.clock.now += AHEAD
    job = await stores.jobs.lease_job(KINDS)
    await _put_right(stores)
    assert await other.jobs.lease_job(KINDS) is None
    assert await stores.jobs.renew_job(job)
    _pass(stores)
    assert await other.jobs.lease_job(KINDS)


async def test_a_turn_whose_server_died_with_a_clock_ahead_is_interrupted_soon(stores):
    await stores.session()
    stores.clock.now += AHEAD
    for name in ("dead", "alive"):
        await stores.session(name)
        start = TurnStart(name, "m", request(name, "Chat"), "p", LEASE, wait=True)
        await stores.turns.begin_turn(ADA, name, message("hi"), start)
    await _put_right(stores)
    assert not (await stores.turns.keep_turns("p", [HeldTurn("alive", 1, ())], 60.0)).lost
    _pass(stores)
    assert (await stores.turns.get_turn(ADA, "dead")).turn.state is TurnState.INTERRUPTED
    assert (await stores.turns.get_turn(ADA, "alive")).turn.state is TurnState.RUNNING


async def test_what_is_near_stays_as_it_is(stores):
    await _cleared(stores)
    job = await stores.jobs.lease_job(KINDS)
    await stores.jobs.fail_job(job, "rubbish", waits=False)
    before = await stores.rows("SELECT job_id, run_time FROM jobs ORDER BY job_id")
    await stores.upkeep.run_upkeep()
    assert await stores.rows("SELECT job_id, run_time FROM jobs ORDER BY job_id") == before

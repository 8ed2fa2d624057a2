"""What must hold after a load, whatever was killed while it ran."""

from collections import Counter, defaultdict
from itertools import pairwise

from tests.faults.history import History, Read, Seen
from tests.faults.linearizability import check
from tests.faults.workload import Actor, Place, Workload

from recollect import AsyncRecollect

INDEX_SECONDS = 180.0
"""Longer than a lease of the embedding queue: work of a server that died waits for its end."""


def broken_promises(history: History, session: str, listed: tuple[str, ...]) -> list[str]:
    """Return what is wrong with a session, in sentences.

    Args:
        history: all calls of the load.
        listed: texts of the session's messages after the load, as the server lists them.
    """
    found = []
    counts = Counter(listed)
    found += [f"stored {n} times: {text}" for text, n in counts.items() if n > 1]
    by_client: dict[int, list[tuple[int, int]]] = defaultdict(list)
    found += [f"never ended: {call}" for call in history.of(session) if call.returned is None]
    for client, append, appended in history.appended(session):
        where = slice(appended.first_sequence - 1, appended.last_sequence)
        if listed[where] != append.texts:
            found.append(f"acknowledged as {appended} but not there: {append}")
        by_client[client].append((appended.first_sequence, appended.last_sequence))
    for client, places in by_client.items():
        if any(earlier[1] >= later[0] for earlier, later in pairwise(places)):
            found.append(f"appends of client {client} are not in its order: {places}")
    if explanation := check(history.of(session)):
        found.append(explanation)
    return found


async def after(load: Workload, actor: Actor) -> list[str]:
    """Read everything once more and return what is wrong with the load, in sentences.

    Args:
        actor: reads; its reads become part of the history.
    """
    found = [f"an answer that nobody may get: {call}" for call in load.history.failed()]
    for place in load.places:
        await actor.read(place)
        found += [f"{place.name}: {what}" for what in _session_after(load, place)]
    for user in {place.user for place in load.places}:
        stored = [fact.text async for fact in actor.client.memory.list_facts(user_id=user)]
        found += wrong_facts([text for who, text in load.facts if who == user], stored)
    return found


def _session_after(load: Workload, place: Place) -> list[str]:
    last = load.history.of(place.name)[-1]
    if last.request != Read("ListMessages") or not isinstance(last.outcome, Seen):
        return [f"cannot be read: {last}"]
    assert last.outcome.texts is not None
    return broken_promises(load.history, place.name, last.outcome.texts)


def wrong_facts(acknowledged: list[str], stored: list[str]) -> list[str]:
    """Return what is wrong with a user's facts: every acknowledged one is stored exactly once."""
    counts = Counter(stored)
    return [f"fact stored {counts[t]} times: {t}" for t in acknowledged if counts[t] != 1]


async def wait_indexed(load: Workload, client: AsyncRecollect) -> None:
    """Return once everything acknowledged can be found by meaning.

    Raises:
        recollect.errors.DeadlineExceeded: it cannot within INDEX_SECONDS.
        AssertionError: the answer does not keep its promise.
    """
    for user, revision in load.user_revisions.items():
        found = await client.memory.recall(
            "garden", user_id=user, min_revision=revision, timeout=INDEX_SECONDS
        )
        assert found.indexed_revision >= revision
        assert found.hits, f"nothing is found of {user}"

"""What must hold after a load, whatever was killed while it ran."""

from collections import Counter, defaultdict
from itertools import pairwise

from tests.faults.history import History
from tests.faults.linearizability import check
from tests.faults.watched import (
    Changes,
    steps_of,
    wrong_facts_watched,
    wrong_messages,
    wrong_order,
    wrong_steps,
    wrong_views,
)
from tests.faults.watcher import Watcher
from tests.faults.workload import Actor, Place, Workload


def broken_promises(history: History, session: str, listed: tuple[str, ...]) -> list[str]:
    """Return what is wrong with a session, in sentences.

    Args:
        history: all calls of the load, and the server's steps.
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


async def after(load: Workload, actor: Actor, watchers: list[Watcher]) -> list[str]:
    """Read everything once more and return what is wrong with the load, in sentences.

    Args:
        actor: reads; its reads become part of the history, as do the steps that Watch shows.
        watchers: of the load's users.
    """
    for place in load.places:
        await actor.read(place)
        await actor.summary(place)
    found = [f"an answer that nobody may get: {call}" for call in load.history.failed()]
    for watcher in watchers:
        await watcher.catch_up(actor.client)
        found += [f"{watcher.user}: {what}" for what in wrong_order(watcher.changes)]
        stored = [fact.text async for fact in actor.client.memory.list_facts(user_id=watcher.user)]
        facts = [text for user, text in load.facts if user == watcher.user]
        found += wrong_facts(facts, stored) + wrong_facts_watched(watcher.changes, facts)
        for place in load.places:
            if place.user == watcher.user:
                wrong = _session_after(load, place, watcher.changes)
                found += [f"{place.name}: {what}" for what in wrong]
    return found


def _session_after(load: Workload, place: Place, changes: Changes) -> list[str]:
    listed = load.listed(place)
    if listed is None:
        return [f"cannot be read: {load.history.of(place.name)[-1]}"]
    calls = load.history.of(place.name)
    steps = steps_of(changes, place, calls)
    found = wrong_messages(changes, place.session, listed)
    found += wrong_steps(steps, calls) + wrong_views(steps, calls, listed)
    load.history.calls += steps
    return found + broken_promises(load.history, place.name, listed)


def wrong_facts(acknowledged: list[str], stored: list[str]) -> list[str]:
    """Return what is wrong with a user's facts: every acknowledged one is stored exactly once."""
    counts = Counter(stored)
    return [f"fact stored {counts[t]} times: {t}" for t in acknowledged if counts[t] != 1]

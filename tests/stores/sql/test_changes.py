"""Changes to watch: all of them, once, in order, from any position, in pages of any size."""

import asyncio
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.stores.sql.support import ADA, Stores

from recollect_server.errors import OutOfRange, Reason
from recollect_server.memory.model import (
    Episode,
    Fact,
    Message,
    NewEpisode,
    NewFact,
    NewSession,
    Session,
)
from recollect_server.memory.watch import KEPT_DAYS, Deleted, Position, SubjectKind
from recollect_server.stores.sql.changes import FORGET_SNAPSHOTS

START = Position(0, 0)


async def _read(stores: Stores, position=START, *, session_id="", limit=200):
    """Read to the end; return the changes and where they end."""
    seen = []
    while True:
        found, end = await stores.changes.changes_after(
            ADA, position, session_id=session_id, limit=limit
        )
        assert end >= position
        assert all(position < change.position <= end for change in found)
        seen += found
        if not found:
            return seen, end
        position = end


def _name(change) -> tuple:
    """A change in short: what happened, and to which thing."""
    subject = change.subject
    what = change.type.name
    match subject:
        case Session():
            return what, "session", subject.session_id, subject.title, subject.revision
        case Message():
            return what, "message", subject.session_id, subject.sequence, subject.text
        case Fact():
            return what, "fact", subject.fact_id, subject.version, subject.text
        case Episode():
            return what, "episode", subject.session_id, subject.last_sequence, subject.title
        case Deleted(SubjectKind.SESSION, session_id, _):
            return what, "session", session_id
        case Deleted(SubjectKind.FACT, _, item_id):
            return what, "fact", item_id
        case _:
            return what, "episode", subject.session_id


class Model:
    """What a user did, in order, and what should come out of it."""

    def __init__(self, stores: Stores, seed: int) -> None:
        self.stores = stores
        self.random = random.Random(seed)
        self.events: list[list] = []
        self.sessions: dict[str, dict] = {}
        self.facts: dict[str, int] = {}

    def add(self, session_id: str, fact_id: str, *name) -> None:
        self.events.append([session_id, fact_id, name])

    async def step(self) -> None:
        self.stores.clock.move(seconds=1)
        names = [
            "create", "append", "append", "update", "clear", "episode", "delete",
            "remember", "correct", "forget",
        ]  # fmt: skip
        await getattr(self, f"_{self.random.choice(names)}")()

    def _pick(self) -> str | None:
        return self.random.choice(sorted(self.sessions)) if self.sessions else None

    async def _create(self) -> None:
        name = self.random.choice("xyz")
        if name not in self.sessions:
            await self.stores.session(name)
            self.sessions[name] = {"revision": 1, "title": "", "last": 0, "episode": 0}
            self.add(name, "", "CREATED", "session", name, "", 1)

    async def _append(self) -> None:
        if (name := self._pick()) is None:
            return
        session = self.sessions[name]
        texts = [f"m{self.random.random()}" for _ in range(self.random.choice([1, 2, 5]))]
        await self.stores.append(*texts, session_id=name)
        session["revision"] += 1
        for text in texts:
            session["last"] += 1
            self.add(name, "", "CREATED", "message", name, session["last"], text)

    async def _update(self) -> None:
        if (name := self._pick()) is None:
            return
        session = self.sessions[name]
        session["title"] = f"t{self.random.random()}"
        session["revision"] += 1
        await self.stores.sessions.update_session(ADA, name, {"title": session["title"]}, None)
        self.add(name, "", "UPDATED", "session", name, session["title"], session["revision"])

    async def _clear(self) -> None:
        if (name := self._pick()) is None:
            return
        session = self.sessions[name]
        session["revision"] += 1
        await self.stores.sessions.clear_session(ADA, name)
        self.add(name, "", "UPDATED", "session", name, session["title"], session["revision"])

    async def _episode(self) -> None:
        name = self._pick()
        if name is None or self.sessions[name]["last"] == self.sessions[name]["episode"]:
            return
        session = self.sessions[name]
        now = self.stores.clock()
        first, last = session["episode"] + 1, session["last"]
        new = NewEpisode("title", "summary", "m", first, last, now, now)
        assert await self.stores.episodes.save_episode(ADA, name, new)
        session["episode"] = last
        self.add(name, "", "CREATED", "episode", name, last, "title")

    async def _delete(self) -> None:
        if (name := self._pick()) is None or self.random.random() < 0.6:
            return
        await self.stores.sessions.delete_session(ADA, name)
        del self.sessions[name]
        # Messages are gone without a trace; of the rest there are the ids.
        self.events = [e for e in self.events if not (e[0] == name and e[2][1] == "message")]
        episodes = 0
        for event in self.events:
            if event[0] == name:
                episodes += event[2][:2] == ("CREATED", "episode") and len(event[2]) > 3
                event[2] = event[2][:3]
        for _ in range(episodes):
            self.add(name, "", "DELETED", "episode", name)
        self.add(name, "", "DELETED", "session", name)

    async def _remember(self) -> None:
        fact_ids = [f for f in "fgh" if f not in self.facts and self.random.random() < 0.5]
        if fact_ids:
            facts = [NewFact(f"{f}{self.random.random()}", f) for f in fact_ids]
            await self.stores.facts.remember(ADA, facts, None)
            for fact in facts:
                self.facts[fact.fact_id] = 1
                self.add("", fact.fact_id, "CREATED", "fact", fact.fact_id, 1, fact.text)

    async def _correct(self) -> None:
        if not self.facts:
            return
        fact_id = self.random.choice(sorted(self.facts))
        self.facts[fact_id] += 1
        text = f"c{self.random.random()}"
        await self.stores.facts.update_fact(ADA, fact_id, {"text": text})
        self.add("", fact_id, "UPDATED", "fact", fact_id, self.facts[fact_id], text)

    async def _forget(self) -> None:
        if not self.facts or self.random.random() < 0.6:
            return
        fact_id = self.random.choice(sorted(self.facts))
        del self.facts[fact_id]
        await self.stores.facts.forget_fact(ADA, fact_id)
        for event in self.events:
            if event[1] == fact_id:
                event[2] = event[2][:3]
        self.add("", fact_id, "DELETED", "fact", fact_id)

    def expected(self, session_id: str = "") -> list[tuple]:
        return [tuple(e[2]) for e in self.events if not session_id or e[0] == session_id]


@pytest.mark.parametrize("seed", range(3))
async def test_what_happened_comes_out_once_and_in_order_from_every_position(stores, seed):
    model = Model(stores, seed)
    for _ in range(60):
        await model.step()
    assert len(model.events) > 25
    whole, end = await _read(stores)
    assert [_name(change) for change in whole] == model.expected()
    assert (await stores.changes.latest_position(ADA)) == end
    for limit in (1, 2, 3, 200):
        assert (await _read(stores, limit=limit))[0] == whole
    for number, change in enumerate(whole):
        rest, _ = await _read(stores, change.position, limit=1 + number % 4)
        assert rest == whole[number + 1 :]
    for session_id in "xyz":
        ours, _ = await _read(stores, session_id=session_id, limit=1 + seed)
        assert [_name(change) for change in ours] == model.expected(session_id)
    assert await _read(stores, end) == ([], end)


@pytest.mark.parametrize("limit", [1, 3, 200])
async def test_a_reader_beside_writers_misses_nothing_and_sees_nothing_twice(stores, other, limit):
    await stores.session()
    await stores.session("t")
    writers = [
        *(stores.append(f"a{n}", f"b{n}") for n in range(20)),
        *(other.append(f"c{n}", session_id="t") for n in range(20)),
        *(other.facts.remember(ADA, [NewFact("x", f"f{n}")], None) for n in range(10)),
    ]
    writing = asyncio.gather(*writers)
    seen, position = [], START
    while True:
        finished = writing.done()
        found, position = await stores.changes.changes_after(
            ADA, position, session_id="", limit=limit
        )
        seen += found
        if finished and not found:
            break
    await writing
    positions = [change.position for change in seen]
    assert positions == sorted(set(positions))
    assert len(seen) == 2 + 40 + 20 + 10
    assert (await _read(stores))[0] == seen


async def test_a_filter_by_session_skips_what_is_not_of_it_in_one_page(stores):
    await stores.session()
    await stores.session("t")
    for number in range(30):
        await stores.append(str(number), session_id="t")
    await stores.append("last")
    found, _ = await stores.changes.changes_after(ADA, START, session_id="s", limit=3)
    assert [_name(change)[:3] for change in found] == [
        ("CREATED", "session", "s"),
        ("CREATED", "message", "s"),
    ]


async def test_a_position_within_a_large_write_goes_on_at_once(stores):
    await stores.session()
    await stores.append(*(str(n) for n in range(20)))
    await stores.append("after")
    whole, _ = await _read(stores)
    inside = whole[-2].position
    found, _ = await stores.changes.changes_after(ADA, inside, session_id="", limit=5)
    assert [change.subject.text for change in found] == ["after"]


async def test_of_a_forgotten_fact_and_a_deleted_session_only_ids_are_told(stores):
    await stores.sessions.create_session(ADA, NewSession("s", title="my secret"), None)
    await stores.append("my secret")
    await stores.facts.remember(ADA, [NewFact("my secret", "f")], None)
    await stores.facts.update_fact(ADA, "f", {"text": "my secret 2"})
    await stores.facts.forget_fact(ADA, "f")
    await stores.sessions.delete_session(ADA, "s")
    await stores.facts.remember(ADA, [NewFact("another", "f")], None)
    whole, _ = await _read(stores)
    assert [_name(change) for change in whole] == [
        ("CREATED", "session", "s"),
        ("CREATED", "fact", "f"),
        ("UPDATED", "fact", "f"),
        ("DELETED", "fact", "f"),
        ("DELETED", "session", "s"),
        ("CREATED", "fact", "f", 1, "another"),
    ]
    assert b"my secret" not in b"".join(
        row[0] for row in await stores.rows("SELECT snapshot FROM changes") if row[0] is not None
    )


async def test_a_deleted_session_is_forgotten_without_reading_its_users_other_changes(
    stores, location
):
    await stores.session()

    def change_much_else(tx) -> None:
        tx.execute_many(
            "INSERT INTO changes (user_key, user_revision, number, type, subject, session_id, "
            "item_id, version, time) SELECT user_key, :revision, 1, 1, 2, '', 'f', 1, 1 FROM users",
            [{"revision": revision} for revision in range(1000, 4000)],
        )

    await stores.database.write(change_much_else)
    plan = await asyncio.to_thread(_plan, location, FORGET_SNAPSHOTS)
    assert "changes_of_sessions" in plan, plan


def _plan(location: str | Path, statement: str) -> str:
    """Return how a database would run a statement about Ada's session."""
    literal = statement.replace(":user_key", "1").replace(":session_id", "'s'")
    if isinstance(location, Path):
        with closing(sqlite3.connect(location)) as lite:
            return str(lite.execute(f"EXPLAIN QUERY PLAN {literal}").fetchall())
    with psycopg.connect(location) as connection:
        connection.execute("ANALYZE changes")
        return str(connection.execute(f"EXPLAIN {literal}").fetchall())


async def test_a_position_from_before_what_is_kept_is_refused_and_a_fresh_one_never(stores):
    await stores.session()
    await stores.facts.remember(ADA, [NewFact("old", "f")], None)
    old, _ = await _read(stores)
    fresh = await stores.changes.latest_position(ADA)
    stores.clock.move(days=KEPT_DAYS - 1)
    while await stores.upkeep.run_upkeep():
        pass
    assert (await _read(stores))[0] == old
    stores.clock.move(days=2)
    while await stores.upkeep.run_upkeep():
        pass
    for position in (START, old[0].position):
        with pytest.raises(OutOfRange) as caught:
            await stores.changes.changes_after(ADA, position, session_id="", limit=9)
        assert caught.value.reason is Reason.RESUME_TOKEN_EXPIRED
    assert await _read(stores, fresh) == ([], fresh)
    await stores.append("new")
    assert [_name(c)[1] for c in (await _read(stores, fresh))[0]] == ["message"]
    latest = await stores.changes.latest_position(ADA)
    assert (await _read(stores, latest))[0] == []


async def test_a_user_without_data_can_be_watched_from_the_start(stores):
    start = await stores.changes.latest_position(ADA)
    assert await _read(stores, start) == ([], start)
    await stores.session()
    assert len((await _read(stores, start))[0]) == 1

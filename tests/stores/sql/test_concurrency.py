"""Many writers of one store: in one process, over two connections, from several processes."""

import asyncio

import pytest
from tests.stores.sql.support import (
    ADA,
    Stores,
    message,
    open_database,
    request,
    start_writer,
)

from recollect_server.chat.model import TurnStart, TurnState
from recollect_server.errors import Aborted, Reason, RevisionMismatch
from recollect_server.memory.model import NewFact, NewSession
from recollect_server.scope import Scope


def _check_dense(done, texts, first_revision=2):
    """Every acknowledged append is there as it was told, once, and nothing else is."""
    assert sorted(d.session_revision for d in done) == list(
        range(first_revision, first_revision + len(done))
    )
    assert sorted(d.user_revision for d in done) == sorted({d.user_revision for d in done})
    acknowledged = {m.sequence: m.text for d in done for m in d.messages}
    assert [acknowledged[n] for n in range(1, len(texts) + 1)] == texts
    for d in done:
        assert [m.sequence for m in d.messages] == list(
            range(d.messages[0].sequence, d.messages[0].sequence + len(d.messages))
        )


async def test_64_writers_of_one_session_lose_nothing_and_repeat_nothing(stores):
    await stores.session()
    done = await asyncio.gather(*(stores.append(f"{i}a", f"{i}b") for i in range(64)))
    _check_dense(done, await stores.texts())
    assert (await stores.sessions.get_session(ADA, "s")).revision == 65


async def test_64_writers_over_two_connections_lose_nothing_and_repeat_nothing(stores, other):
    await stores.session()
    done = await asyncio.gather(
        *((stores, other)[i % 2].append(f"{i}a", f"{i}b") for i in range(64))
    )
    _check_dense(done, await stores.texts())
    assert await other.texts() == await stores.texts()


async def test_writers_of_many_users_over_two_connections_do_not_wait_for_each_other(stores, other):
    names = [f"u{n}" for n in range(16)]
    scopes = [Scope("acme", name) for name in names]
    await asyncio.gather(*(stores.session(scope=scope) for scope in scopes))
    async with asyncio.timeout(60):
        for number in range(8):
            # Opposite order on the two, so that groups that lock many users cross each other.
            await asyncio.gather(
                *(stores.append(str(number), scope=scope) for scope in scopes),
                *(other.append(str(number), scope=scope) for scope in reversed(scopes)),
            )
    for scope in scopes:
        assert await stores.texts(scope=scope) == [str(n) for n in range(8) for _ in range(2)]


async def test_only_one_of_many_writers_with_the_same_expected_revision_wins(stores, other):
    await stores.session()
    for revision in range(1, 6):
        results = await asyncio.gather(
            *(
                (stores, other)[i % 2].sessions.append_messages(
                    ADA, "s", [message(str(i))], request=None, expected_revision=revision
                )
                for i in range(16)
            ),
            return_exceptions=True,
        )
        lost = [r for r in results if isinstance(r, Exception)]
        assert len(lost) == 15
        assert all(isinstance(r, RevisionMismatch) for r in lost), lost
        assert len(await stores.texts()) == revision


async def test_a_repeated_request_gets_the_first_answer_also_after_a_restart(stores, location):
    await stores.session()
    first = await stores.append("a", "b", request=request("r1"))
    await stores.append("c")
    assert await stores.append("a", "b", request=request("r1")) == first
    await stores.database.close()
    reopened = open_database(location)
    again = Stores(reopened, stores.clock)
    stores.clock.move(hours=23)
    assert await again.append("a", "b", request=request("r1")) == first
    assert await again.texts() == ["a", "b", "c"]
    await reopened.close()


async def test_concurrent_repeats_of_an_append_write_once_and_get_one_answer(stores, other):
    await stores.session()
    for number in range(1, 9):
        answers = await asyncio.gather(
            *(
                (stores, other)[i % 2].sessions.append_messages(
                    ADA,
                    "s",
                    [message(str(number))],
                    request=request(f"r{number}"),
                    expected_revision=number,
                )
                for i in range(2)
            )
        )
        assert all(answer == answers[0] for answer in answers)
    assert await stores.texts() == [str(n) for n in range(1, 9)]


async def test_concurrent_repeats_of_creating_a_session_create_it_once(stores, other):
    for number in range(8):
        scope = Scope("acme", f"new-{number}")
        answers = await asyncio.gather(
            *(
                (stores, other)[i % 2].sessions.create_session(
                    scope, NewSession("s", title="t"), request("r", "CreateSession")
                )
                for i in range(2)
            )
        )
        assert all(answer == answers[0] for answer in answers)


async def test_concurrent_repeats_of_remembering_store_once(stores, other):
    for number in range(8):
        facts = [NewFact(f"chosen {number}", f"f{number}"), NewFact(f"not chosen {number}")]
        answers = await asyncio.gather(
            *(
                (stores, other)[i % 2].facts.remember(ADA, facts, request(f"r{number}", "R"))
                for i in range(2)
            )
        )
        assert all(answer == answers[0] for answer in answers)
    assert len(await stores.facts.list_facts(ADA, limit=99, after=None, valid_only=False)) == 16


async def test_one_of_two_servers_begins_a_turn_and_the_other_learns_that_it_runs(stores, other):
    await stores.session()

    def begin(on, number, i):
        asked = request(f"r{number}", "Chat")
        start = TurnStart(f"t{number}-{i}", "m", asked, f"p{i}", 60, wait=False)
        return on.turns.begin_turn(ADA, "s", message(str(number)), start)

    for number in range(8):
        begun = await asyncio.gather(*(begin((stores, other)[i % 2], number, i) for i in range(4)))
        assert [b.fresh for b in begun].count(True) == 1
        assert len({b.turn.turn_id for b in begun}) == 1
        with pytest.raises(Aborted) as refused:
            await begin(other, f"{number} meanwhile", 0)
        assert refused.value.reason is Reason.TURN_IN_PROGRESS
        (mine,) = (b.turn for b in begun if b.fresh)
        await stores.turns.finish_turn(ADA, mine, None, TurnState.FAILED)
    assert await stores.texts() == [str(n) for n in range(8)]


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_have_no_gap_and_no_repeat_while_others_write(stores, other, newest_first):
    await stores.session()
    await stores.append(*(str(n) for n in range(1, 51)))
    writing = asyncio.create_task(_keep_writing(other, 40))
    seen: list[int] = []
    bound = {"after": None, "before": None}
    while True:
        page = await stores.sessions.list_messages(
            ADA, "s", limit=7, since=None, newest_first=newest_first, **bound
        )
        if not page:
            break
        seen += [m.sequence for m in page]
        bound["before" if newest_first else "after"] = page[-1].sequence
    await writing
    if newest_first:
        assert seen == list(range(seen[0], 0, -1))
        assert seen[0] >= 50
    else:
        assert seen == list(range(1, len(seen) + 1))
        assert len(seen) >= 50


async def _keep_writing(stores, count):
    for number in range(count):
        await stores.append(f"late {number}")


async def test_a_session_of_10_000_messages_is_written_paged_and_deleted(stores):
    await stores.session()
    for start in range(0, 10_000, 500):
        done = await stores.append(*(str(n) for n in range(start, start + 500)))
        assert done.messages[-1].sequence == start + 500
    page = {"limit": 100, "since": None, "after": None, "before": None}
    first = await stores.sessions.list_messages(ADA, "s", newest_first=False, **page)
    last = await stores.sessions.list_messages(ADA, "s", newest_first=True, **page)
    assert [m.text for m in first] == [str(n) for n in range(100)]
    assert [m.text for m in last] == [str(n) for n in range(9_999, 9_899, -1)]
    await stores.sessions.delete_session(ADA, "s")
    assert await stores.rows("SELECT COUNT(*) FROM messages") == [(0,)]


async def test_a_caller_that_gives_up_does_not_hurt_others(stores):
    await stores.session()
    calls = [asyncio.create_task(stores.append(str(n))) for n in range(20)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    done = await asyncio.gather(*calls, return_exceptions=True)
    acknowledged = {r.messages[0].text for r in done if not isinstance(r, BaseException)}
    assert acknowledged >= {str(n) for n in range(1, 20, 2)}
    assert acknowledged <= set(await stores.texts())


async def test_a_failing_unit_does_not_hurt_its_group(database):
    def fail(tx):
        tx.execute("INSERT INTO users (tenant, user_id, revision) VALUES ('t', 'bad', 1)")
        raise ValueError("only this one")

    def add(name):
        return lambda tx: tx.execute(
            "INSERT INTO users (tenant, user_id, revision) VALUES ('t', :name, 1) "
            "RETURNING user_id",
            {"name": name},
        )

    def refused(tx):
        tx.execute_many("INSERT INTO users (tenant) VALUES (:no)", [{"no": "secret"}])

    results = await asyncio.gather(
        *(database.write(work) for work in (add("a"), fail, add("b"), refused, add("c"))),
        return_exceptions=True,
    )
    assert [results[0], results[2], results[4]] == [[("a",)], [("b",)], [("c",)]]
    assert isinstance(results[1], ValueError)
    assert isinstance(results[3], Exception)
    assert "secret" not in str(results[3])
    rows = await database.read(lambda tx: tx.execute("SELECT user_id FROM users ORDER BY user_id"))
    assert rows == [("a",), ("b",), ("c",)]


def _lines(text: str) -> list[tuple[str, int, int]]:
    return [(t, int(n), int(r)) for t, n, r in (line.split() for line in text.splitlines())]


async def test_processes_that_write_one_session_lose_nothing_and_repeat_nothing(stores, location):
    await stores.session()
    writers = [start_writer(location, name, 120) for name in "abc"]
    said = await asyncio.gather(*(asyncio.to_thread(w.communicate) for w in writers))
    assert [w.returncode for w in writers] == [0, 0, 0]
    told = [line for out, _ in said for line in _lines(out)]
    assert len(told) == 360
    assert sorted(sequence for _, sequence, _ in told) == list(range(1, 361))
    assert sorted(revision for _, _, revision in told) == list(range(2, 362))
    texts = await stores.texts()
    assert [text for text, _, _ in sorted(told, key=lambda line: line[1])] == texts


async def test_what_a_killed_process_acknowledged_is_there_once_and_in_place(stores, location):
    await stores.session()
    process = start_writer(location, "w", 100_000)
    told = [await asyncio.to_thread(process.stdout.readline) for _ in range(100)]
    process.kill()
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    complete = rest[: rest.rfind("\n") + 1]
    texts = await stores.texts()
    assert len(set(texts)) == len(texts)
    for text, sequence, _ in _lines("".join(told) + complete):
        assert texts[sequence - 1] == text

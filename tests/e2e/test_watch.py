"""Watch as a client sees it: every change once, in order, whoever disconnects or dies."""

import random
import sqlite3
import threading
import uuid
from contextlib import closing
from itertools import islice
from pathlib import Path

import grpc
import pytest
from tests.e2e.deployments import opened, pair_on, reading, said, texts, token_of_now
from tests.harness import RunningServer, eventually, unique

from recollect import errors
from recollect.v1 import memory_pb2 as pb

DAY_MICROSECONDS = 24 * 3600 * 10**6
CREATED, UPDATED, DELETED = (
    pb.CHANGE_TYPE_CREATED,
    pb.CHANGE_TYPE_UPDATED,
    pb.CHANGE_TYPE_DELETED,
)


@pytest.fixture
def name():
    return unique("ada")


@pytest.fixture
def client(server, name):
    with server.client(name) as made:
        yield made


def _told(seen: list[pb.WatchResponse]) -> list[tuple[int, str]]:
    return [(change.type, str(change.WhichOneof("subject"))) for change in seen]


def _arrives(seen: list[pb.WatchResponse], count: int) -> pb.WatchResponse:
    eventually(lambda: len(seen) >= count)
    return seen[count - 1]


def test_every_change_of_a_user_comes_in_order_with_what_it_left(server, client, name):
    with reading(server, name) as reader:
        seen = reader.seen
        created = client.memory.create_session(session_id="s", title="t")
        assert _arrives(seen, 1).session == created
        done = client.memory.append_messages("s", ["a", "b"])
        _arrives(seen, 3)
        assert [c.message for c in seen[1:]] == list(done.messages)
        assert [c.user_revision for c in seen[1:]] == [done.user_revision] * 2
        renamed = client.memory.update_session("s", title="u")
        assert _arrives(seen, 4).session == renamed
        fact = client.memory.remember(["likes tea"]).facts[0]
        assert _arrives(seen, 5).fact == fact
        newer = client.memory.update_fact(fact.fact_id, text="likes coffee")
        assert _arrives(seen, 6).fact == newer
        client.memory.forget_fact(fact.fact_id)
        gone = pb.Fact(user_id=name, fact_id=fact.fact_id)
        assert _arrives(seen, 7).fact == gone
        client.memory.delete_session("s")
        assert _arrives(seen, 8).session == pb.Session(user_id=name, session_id="s")
    assert _told(seen) == [
        (CREATED, "session"),
        (CREATED, "message"),
        (CREATED, "message"),
        (UPDATED, "session"),
        (CREATED, "fact"),
        (UPDATED, "fact"),
        (DELETED, "fact"),
        (DELETED, "session"),
    ]
    revisions = [change.user_revision for change in seen]
    assert revisions == sorted(revisions)


def test_a_watch_of_a_session_has_its_changes_only(server, client, name):
    for session in ("mine", "other"):
        client.memory.create_session(session_id=session)
    with reading(server, name, session_id="mine") as reader:
        for session in ("other", "mine", "other"):
            client.memory.append_messages(session, [session])
        client.memory.remember(["likes tea"])
        client.memory.clear_session("mine")
        episode = _arrives(reader.seen, 3).episode
        assert list(client.memory.list_episodes()) == [episode]
        client.memory.delete_session("other")
        client.memory.delete_session("mine")
        assert _arrives(reader.seen, 5)
    subjects = [getattr(c, str(c.WhichOneof("subject"))) for c in reader.seen]
    assert [subject.session_id for subject in subjects] == ["mine"] * 5
    assert reader.seen[3].episode == pb.Episode(
        user_id=name, session_id="mine", episode_id=episode.episode_id
    )
    assert _told(reader.seen) == [
        (CREATED, "message"),
        (UPDATED, "session"),
        (CREATED, "episode"),
        (DELETED, "episode"),
        (DELETED, "session"),
    ]


def test_a_watch_says_where_it_begins_and_shows_what_is_written_after_it(client):
    client.memory.create_session(session_id="s")
    with closing(client.memory.watch()) as changes:
        began = next(changes)
        assert began.WhichOneof("subject") is None
        client.memory.append_messages("s", ["a"])
        assert said(next(changes)) == "a"
    with closing(client.memory.watch(resume_token=began.resume_token)) as changes:
        assert said(next(changes)) == "a"


def test_a_watch_of_a_session_that_is_not_there_is_refused(client):
    with pytest.raises(errors.NotFound):
        next(iter(client.memory.watch(session_id="nowhere")))


def test_from_every_token_what_came_after_follows(server, client, name):
    token = token_of_now(server, name)
    client.memory.create_session(session_id="s")
    client.memory.append_messages("s", ["a", "b", "c"])
    client.memory.remember(["x", "y"])
    with closing(client.memory.watch(resume_token=token)) as changes:
        seen = list(islice(changes, 6))
    for position, change in enumerate(seen[:-1]):
        with closing(client.memory.watch(resume_token=change.resume_token)) as changes:
            assert list(islice(changes, len(seen) - position - 1)) == seen[position + 1 :]


def test_a_token_of_another_watch_is_refused_by_its_field(server, client, name):
    client.memory.create_session(session_id="s")
    of_session = token_of_now(server, name, "s")
    of_another = token_of_now(server, unique("eve"))
    page = "AAAA"
    for token in (of_session, of_another, page, "not a token", "ü"):
        with pytest.raises(errors.InvalidArgument) as caught:
            next(iter(client.memory.watch(resume_token=token)))
        assert [field for field, _ in caught.value.field_violations] == ["resume_token"]


def _age(database: Path, days: int) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE changes SET time = time - ?", (days * DAY_MICROSECONDS,))


def test_a_token_older_than_what_is_kept_has_expired():
    with RunningServer() as server, server.client("ada") as client:
        token = token_of_now(server, "ada")
        client.memory.create_session(session_id="s")
        client.memory.append_messages("s", ["a"])
        _age(server.data_dir / "recollect.db", 8)

        def reason() -> str:
            try:
                with closing(client.memory.watch(resume_token=token)) as changes:
                    next(iter(changes))
            except errors.OutOfRange as error:
                return error.reason
            return ""

        assert eventually(reason) == "RESUME_TOKEN_EXPIRED"
        with closing(client.memory.watch(resume_token=token_of_now(server, "ada"))) as changes:
            client.memory.append_messages("s", ["b"])
            assert said(next(iter(changes))) == "b"


def _append_surely(client, text: str) -> None:
    request_id = str(uuid.uuid4())

    def done() -> bool:
        try:
            client.memory.append_messages("s", [text], request_id=request_id)
        except errors.Unavailable:
            return False
        return True

    eventually(done, 30)


def test_a_watch_goes_on_by_itself_when_the_server_was_killed():
    with RunningServer() as server:
        with server.client("ada") as client:
            client.memory.create_session(session_id="s")
        with reading(server, "ada") as reader:
            written = []
            for round_ in range(3):
                with server.client("ada") as client:
                    for number in range(5):
                        written.append(f"{round_}.{number}")
                        _append_surely(client, written[-1])
                server.kill()
                server.start()
            eventually(lambda: len([*texts(reader.seen)]) >= len(written) or reader.failure, 30)
            assert reader.failure is None
            assert [*texts(reader.seen)] == written


def test_a_watch_that_saw_nothing_yet_misses_nothing_when_the_server_is_killed():
    with RunningServer() as server, server.client("ada") as client:
        client.memory.create_session(session_id="s")
        with opened(server, "ada") as call:
            token = next(call).resume_token
            client.memory.append_messages("s", ["between"])
            server.kill()
        server.start()
        with closing(client.memory.watch(resume_token=token)) as changes:
            assert said(next(iter(changes))) == "between"


def test_sigterm_does_not_wait_for_watches():
    with RunningServer("--grace-seconds", "3600") as server, opened(server, "ada") as call:
        assert next(call).WhichOneof("subject") is None
        assert server.stop() == 0
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_changes_at_one_server_reach_watchers_at_another_also_without_valkey(
    kind, tmp_path, postgres
):
    with pair_on(kind, tmp_path, postgres) as pair, pair.one.client("ada") as client:
        client.memory.create_session(session_id="s")
        with reading(pair.other, "ada") as reader:
            for number in range(5):
                client.memory.append_messages("s", [str(number)])
                eventually(lambda number=number: len(reader.seen) == number + 1)
            pair.valkey.kill()
            client.memory.append_messages("s", ["down"], timeout=20)
            eventually(lambda: len(reader.seen) == 6)
            pair.valkey.start()
            client.memory.append_messages("s", ["up"], timeout=20)
            eventually(lambda: len(reader.seen) == 7)
            token = reader.seen[2].resume_token
            assert [said(c) for c in reader.seen] == [*"01234", "down", "up"]
        with closing(client.memory.watch(resume_token=token)) as changes:
            assert [said(c) for c in islice(changes, 4)] == ["3", "4", "down", "up"]


def _rss(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_readers_that_do_not_read_cost_little_and_miss_nothing():
    count, size, readers = 120, 300_000, 12
    with RunningServer() as server, server.client("ada") as client:
        client.memory.create_session(session_id="s", window_size=1)
        token = token_of_now(server, "ada")
        for number in range(count):
            client.memory.append_messages("s", [f"{number} " + "x" * size])
        before = _rss(server.pid)
        with opened(server, "ada", resume_token=token) as first:
            others = [opened(server, "ada", resume_token=token) for _ in range(readers - 1)]
            for other in others:
                other.__enter__()
            # A watch that has begun reads ahead what it ever will before its first answer is read.
            assert said(next(first)).startswith("0 ")
            client.memory.append_messages("s", ["end"])
            grown = _rss(server.pid) - before
            assert grown < readers * count * size / 4
            found = [text.split()[0] for text in islice(texts(first), count)]
            assert found == [*map(str, range(1, count)), "end"]
            for other in others:
                other.__exit__(None, None, None)


def _write(server: RunningServer, name: str, writer: int, count: int) -> None:
    with server.client(name) as client:
        for number in range(count):
            session = f"s{random.randrange(4)}"
            client.memory.append_messages(session, [f"{writer}.{number}", "and"])
            if number % 5 == 0:
                client.memory.update_session(session, title=f"{writer}.{number}")


def _follow(server: RunningServer, name: str, token: str, messages: int, seen: list) -> None:
    with server.client(name) as client:
        while len([*texts(seen)]) < messages:
            with closing(client.memory.watch(resume_token=token)) as changes:
                for change in islice(changes, random.randint(1, 40)):
                    seen.append(change)
                    token = change.resume_token
                    if len([*texts(seen)]) == messages:
                        break


def test_16_writers_are_followed_by_4_watchers_that_disconnect_at_random(server, client, name):
    writers, count = 16, 20
    for number in range(4):
        client.memory.create_session(session_id=f"s{number}")
    token = token_of_now(server, name)
    total = writers * count * 2
    seen: list[list[pb.WatchResponse]] = [[] for _ in range(4)]
    threads = [
        *(threading.Thread(target=_write, args=(server, name, n, count)) for n in range(writers)),
        *(threading.Thread(target=_follow, args=(server, name, token, total, s)) for s in seen),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    stored = {
        (f"s{n}", m.sequence): m for n in range(4) for m in client.memory.list_messages(f"s{n}")
    }
    for one in seen:
        assert one == seen[0][: len(one)] or one[: len(seen[0])] == seen[0]
        messages = [c.message for c in one if c.HasField("message")]
        assert [stored[m.session_id, m.sequence] for m in messages] == messages
        assert len(messages) == len(stored) == total
        for n in range(4):
            mine = [m.sequence for m in messages if m.session_id == f"s{n}"]
            assert mine == list(range(1, len(mine) + 1))
        revisions = [c.user_revision for c in one]
        assert revisions == sorted(revisions)
        assert len({c.resume_token for c in one}) == len(one)

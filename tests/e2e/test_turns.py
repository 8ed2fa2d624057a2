"""Turns that are followed, cancelled and taken over by another server of the same stores."""

import asyncio
import itertools
import json
import os
import random
import signal
import sqlite3
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import psycopg
import pytest
from tests.e2e.deployments import pair_on
from tests.harness import unique
from tests.mocks.llm import MockLlm

from recollect import errors
from recollect.v1 import chat_pb2, chat_pb2_grpc, common_pb2, memory_pb2

SLOW = "slow " * 60
LONG = "long " * 200
FLOOD = "flood " * 500_000
FIXTURES = [
    {"match": {"userMessage": "quick"}, "response": {"content": "Here you are."}},
    {"match": {"userMessage": "slow"}, "response": {"content": SLOW},
     "chunkSize": 5, "latency": 50},
    {"match": {"userMessage": "long"}, "response": {"content": LONG},
     "chunkSize": 5, "latency": 50},
    {"match": {"userMessage": "flood"}, "response": {"content": FLOOD}, "chunkSize": 1000},
    {"match": {"userMessage": "cut"},
     "response": {"content": "not the wh", "finishReason": "length"}},
    {"match": {"userMessage": "tool"}, "response": {"content": "", "toolCalls": [
        {"name": "get_weather", "arguments": "{}"}]}},
    {"match": {}, "response": {"content": "Something else."}},
]  # fmt: skip
PLAIN = chat_pb2.ChatOptions(
    cache=chat_pb2.ChatCacheOptions(mode=chat_pb2.CACHE_MODE_OFF),
    context=memory_pb2.ContextOptions(profile=memory_pb2.CONTEXT_PROFILE_BUFFER),
)


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory):
    with MockLlm(tmp_path_factory.mktemp("mock"), FIXTURES) as running:
        yield running


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def pair(request, mock, tmp_path_factory: pytest.TempPathFactory):
    folder: Path = tmp_path_factory.mktemp("pair")
    postgres = request.getfixturevalue("postgres")
    flags = ("--anthropic-base-url", mock.url, "--grace-seconds", "1")
    with pair_on(request.param, folder, postgres, *flags, ANTHROPIC_API_KEY="test") as servers:
        yield servers


@pytest.fixture
def ada():
    return unique("ada")


def _options(**more) -> chat_pb2.ChatOptions:
    options = chat_pb2.ChatOptions(**more)
    options.MergeFrom(PLAIN)
    return options


def _kinds(events) -> list[str]:
    return [event.WhichOneof("kind") for event in events]


def _said(events) -> str:
    return "".join(event.delta.text for event in events)


def _calls(mock: MockLlm, text: str) -> int:
    """Count the calls of the chat model; those of the small one are background work."""
    bodies = [body for body in mock.requests() if body["model"] == "claude-opus-4-8"]
    return sum(text in json.dumps(body) for body in bodies)


def _in_thread(events) -> tuple[list, threading.Thread, list]:
    """Read events meanwhile; return (those read, the thread, the error that ended it)."""
    seen: list = []
    failed: list = []

    def read() -> None:
        try:
            seen.extend(events)
        except errors.RecollectError as error:
            failed.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return seen, thread, failed


def _begun(events) -> tuple[str, list]:
    """Read up to the first delta; return the turn's id and the events so far."""
    seen = []
    for event in events:
        seen.append(event)
        if event.WhichOneof("kind") == "delta":
            return seen[0].started.turn_id, seen
    raise AssertionError("no delta")


def _plain(events) -> list:
    """Return events for comparison: timings and what the cache weighed are of the first run."""
    kept = []
    for event in events:
        copy = chat_pb2.ChatEvent.FromString(event.SerializeToString())
        copy.done.turn.ClearField("timings")
        kept.append((copy.sequence, copy.WhichOneof("kind"), copy.delta, copy.started))
    return kept


def _lose_events(database_url: str) -> None:
    """Remove the events of all turns, as upkeep does ten minutes after their end."""
    path = database_url.removeprefix("sqlite:///")
    database = sqlite3.connect(path) if path != database_url else psycopg.connect(database_url)
    with closing(database):
        database.execute("DELETE FROM turn_events")
        database.commit()


def test_a_running_turn_is_resumed_on_another_server_without_gap_or_repeat(pair, ada):
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = one.memory.create_session().session_id
        stream = one.chat.stream(session, "slow", options=PLAIN)
        turn_id, first = _begun(stream)
        resumed, thread, _ = _in_thread(other.chat.resume(turn_id, after_sequence=2))
        first += list(stream)
        thread.join(30)
        assert _plain(resumed) == _plain(first[2:])
        assert _said(first) == SLOW
        assert resumed[-1].done.turn.reply == first[-1].done.turn.reply
        again = list(other.chat.resume(turn_id, after_sequence=5))
        assert _plain(again) == _plain(first[5:])
        assert list(other.chat.resume(turn_id, after_sequence=first[-1].sequence)) == []
        with pair.other.client(unique("eve")) as eve, pytest.raises(errors.NotFound):
            list(eve.chat.resume(turn_id))


def test_events_arrive_on_another_server_as_they_come(pair, ada):
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = one.memory.create_session().session_id
        stream = one.chat.stream(session, "long", options=PLAIN)
        turn_id, _ = _begun(stream)
        arrivals = []
        for event in other.chat.resume(turn_id):
            arrivals.append((time.monotonic(), event.sequence))
            if event.sequence > 100:
                break
        other.chat.cancel_turn(turn_id)
    # By the store alone they would come once a second: about 20 at a time.
    live = [time for time, sequence in arrivals if sequence > 40]
    gaps = sorted(b - a for a, b in itertools.pairwise(live))
    assert sum(gap > 0.02 for gap in gaps) > 10, gaps


@pytest.mark.parametrize("where", ["one", "other"])
def test_a_turn_is_cancelled_from_any_server_and_keeps_what_was_said(pair, ada, where):
    with pair.one.client(ada) as one, getattr(pair, where).client(ada) as canceller:
        session = one.memory.create_session().session_id
        stream = one.chat.stream(session, "long", options=PLAIN)
        turn_id, first = _begun(stream)
        seen, thread, failed = _in_thread(stream)
        turn = canceller.chat.cancel_turn(turn_id)
        thread.join(10)
        assert [error.reason for error in failed] == ["TURN_CANCELLED"]
        assert turn.state == chat_pb2.TURN_STATE_CANCELLED
        assert turn.reply.metadata["turn_state"] == "cancelled"
        assert turn.reply.parts[0].text == _said(first) + _said(seen)
        assert list(one.memory.list_messages(session))[1] == turn.reply
        assert canceller.chat.cancel_turn(turn_id) == turn
        with pytest.raises(errors.Cancelled) as caught:
            list(canceller.chat.resume(turn_id))
        assert caught.value.reason == "TURN_CANCELLED"
        assert one.chat.send(session, "quick", options=PLAIN).reply.parts[0].text == "Here you are."


@pytest.mark.parametrize("where", ["one", "other"])
def test_a_session_that_is_deleted_ends_its_turn_and_says_so(pair, ada, where):
    with pair.one.client(ada) as one, getattr(pair, where).client(ada) as client:
        session = client.memory.create_session().session_id
        stream = one.chat.stream(session, "long", options=PLAIN)
        _begun(stream)
        client.memory.delete_session(session)
        with pytest.raises(errors.NotFound) as caught:
            list(stream)
    assert caught.value.reason == "SESSION_NOT_FOUND"


def test_a_repeat_of_a_cancelled_turn_says_so_also_when_its_events_are_gone(pair, ada):
    request_id = str(uuid.uuid4())
    with pair.one.client(ada) as client:
        session = client.memory.create_session().session_id
        turn_id, _ = _begun(client.chat.stream(session, "long", request_id=request_id))
        assert client.chat.cancel_turn(turn_id).state == chat_pb2.TURN_STATE_CANCELLED
        for gone in (False, True):
            if gone:
                _lose_events(pair.database_url)
            with pytest.raises(errors.Cancelled) as caught:
                list(client.chat.stream(session, "long", request_id=request_id))
            assert caught.value.reason == "TURN_CANCELLED"


def test_a_repeat_on_another_server_joins_the_turn(pair, ada, mock):
    request_id, text = str(uuid.uuid4()), unique("slow")
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = one.memory.create_session().session_id
        stream = one.chat.stream(session, text, options=PLAIN, request_id=request_id)
        _, first = _begun(stream)
        joined = list(other.chat.stream(session, text, options=PLAIN, request_id=request_id))
        first += list(stream)
        assert _plain(joined) == _plain(first)
        again = list(other.chat.stream(session, text, options=PLAIN, request_id=request_id))
        assert _plain(again) == _plain(first)
        assert _calls(mock, text) == 1
        assert len(list(one.memory.list_messages(session))) == 2


def test_turns_of_one_session_run_in_order_across_servers(pair, ada):
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = one.memory.create_session().session_id
        stream = one.chat.stream(session, "slow", options=PLAIN)
        _begun(stream)
        refusing = _options(concurrency=chat_pb2.TURN_CONCURRENCY_ABORT)
        with pytest.raises(errors.Aborted) as caught:
            other.chat.send(session, "quick", options=refusing)
        assert caught.value.reason == "TURN_IN_PROGRESS"
        with ThreadPoolExecutor() as pool:
            waiting = [
                pool.submit(client.chat.send, session, f"quick {number}", options=PLAIN)
                for number, client in enumerate((other, one, other, one))
            ]
            assert _kinds(stream)[-1] == "done"
            for future in waiting:
                future.result(30)
        listed = list(one.memory.list_messages(session))
    assert [m.role for m in listed] == [common_pb2.ROLE_USER, common_pb2.ROLE_ASSISTANT] * 5
    assert sorted(m.parts[0].text for m in listed[2::2]) == [f"quick {n}" for n in range(4)]


async def test_many_streams_are_resumed_elsewhere_from_random_points(pair):
    """Every stream is left at a random point and taken up by the other server."""
    chance = random.Random(5)
    user = unique("many")
    async with pair.one.async_client(user) as one, pair.other.async_client(user) as other:

        async def one_turn() -> None:
            session = (await one.memory.create_session()).session_id
            leave_at = chance.randint(3, 50)
            seen = []
            async for event in one.chat.stream(session, "slow", options=PLAIN):
                seen.append(event)
                if event.sequence == leave_at:
                    break
            turn_id = seen[0].started.turn_id
            async for event in other.chat.resume(turn_id, after_sequence=leave_at):
                seen.append(event)
            assert [e.sequence for e in seen] == list(range(1, len(seen) + 1))
            assert _said(seen) == SLOW
            assert seen[-1].WhichOneof("kind") == "done"

        await asyncio.gather(*(one_turn() for _ in range(int(os.environ.get("STREAMS", "40")))))


def test_a_slow_reader_holds_the_model_back(pair, ada):
    # Without probes the transport takes 64 KB ahead of the reader, and no more the faster it is.
    channel = grpc.insecure_channel(pair.one.address, [("grpc.http2.bdp_probe", 0)])
    with pair.one.client(ada) as quick, channel:
        session = quick.memory.create_session().session_id
        began = time.monotonic()
        assert _said(quick.chat.stream(session, "flood", options=PLAIN)) == FLOOD
        took = time.monotonic() - began
        message = memory_pb2.NewMessage(
            role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text="flood again")]
        )
        stream = chat_pb2_grpc.ChatServiceStub(channel).StreamChat(
            chat_pb2.StreamChatRequest(
                session_id=session, user_id=ada, message=message, options=PLAIN
            )
        )
        events = (response.event for response in stream)
        turn_id, seen = _begun(events)
        time.sleep(3 * took)
        assert quick.chat.get_turn(turn_id).state == chat_pb2.TURN_STATE_RUNNING
        rest = list(events)
        assert _said([*seen, *rest]) == FLOOD
        assert rest[-1].WhichOneof("kind") == "done"


def test_a_passed_deadline_ends_the_stream_and_not_the_turn(pair, ada):
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = one.memory.create_session().session_id
        stream = one.chat.stream(session, "slow", options=PLAIN, timeout=1.5)
        seen, thread, failed = _in_thread(stream)
        thread.join(30)
        assert [type(error) for error in failed] == [errors.DeadlineExceeded]
        rest = list(other.chat.resume(seen[0].started.turn_id, after_sequence=seen[-1].sequence))
        assert _said(seen) + _said(rest) == SLOW


def test_a_turn_that_takes_too_long_is_ended_and_says_so_to_a_resume(pair, ada):
    options = _options()
    options.turn_timeout.FromSeconds(1)
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = one.memory.create_session().session_id
        stream = one.chat.stream(session, "long", options=options)
        turn_id, _ = _begun(stream)
        for events in (stream, other.chat.resume(turn_id)):
            with pytest.raises(errors.DeadlineExceeded) as caught:
                list(events)
            assert caught.value.reason == "TURN_TIMED_OUT"
        assert one.chat.get_turn(turn_id).state == chat_pb2.TURN_STATE_FAILED


def test_without_valkey_a_resume_goes_by_the_store(pair, ada):
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = one.memory.create_session().session_id
        pair.valkey.kill()
        try:
            stream = one.chat.stream(session, "slow", options=PLAIN)
            turn_id, first = _begun(stream)
            resumed, thread, _ = _in_thread(other.chat.resume(turn_id))
            first += list(stream)
            thread.join(30)
            assert _plain(resumed) == _plain(first)
        finally:
            pair.valkey.start()


def test_a_killed_servers_turn_is_interrupted_and_started_over_once(pair, ada, mock):
    request_id, text = str(uuid.uuid4()), unique("long")
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = other.memory.create_session().session_id
        stream = one.chat.stream(session, text, options=PLAIN, request_id=request_id)
        turn_id, first = _begun(stream)
        while len(first) < 60:
            first.append(next(stream))
        os.kill(pair.one.pid, signal.SIGKILL)
        try:
            resumed = list(other.chat.resume(turn_id))
            assert _kinds(resumed)[-1] == "interrupted"
            turn = resumed[-1].interrupted.turn
            assert turn.state == chat_pb2.TURN_STATE_INTERRUPTED
            assert turn.reply.parts[0].text == _said(resumed)
            assert LONG.startswith(_said(resumed))
            assert len(_said(resumed)) > 100
            assert other.chat.get_turn(turn_id) == turn
            second = list(other.chat.stream(session, text, options=PLAIN, request_id=request_id))
            third = list(other.chat.stream(session, text, options=PLAIN, request_id=request_id))
            assert second[0].started.attempt == 2
            assert _said(second) == _said(third) == LONG
            assert _calls(mock, text) == 2
            listed = [m.parts[0].text for m in other.memory.list_messages(session)]
            assert listed == [text, LONG]
        finally:
            pair.one.process.wait(10)
            pair.one.start()


def test_a_repeat_right_after_a_kill_waits_for_the_lease_and_starts_over(pair, ada):
    request_id = str(uuid.uuid4())
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = other.memory.create_session().session_id
        stream = one.chat.stream(session, "slow", options=PLAIN, request_id=request_id)
        _begun(stream)
        os.kill(pair.one.pid, signal.SIGKILL)
        try:
            events = list(other.chat.stream(session, "slow", options=PLAIN, request_id=request_id))
        finally:
            pair.one.process.wait(10)
            pair.one.start()
    over = [n for n, event in enumerate(events) if event.WhichOneof("kind") == "started"][-1]
    assert events[over].started.attempt == 2
    assert [e.sequence for e in events[over:]] == list(range(1, len(events) - over + 1))
    assert _said(events[over:]) == SLOW


def test_a_server_that_ends_leaves_its_turns_interrupted(pair, ada):
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = other.memory.create_session().session_id
        turn_id, _ = _begun(one.chat.stream(session, "long", options=PLAIN))
        assert pair.one.stop() == 0
        try:
            assert other.chat.get_turn(turn_id).state == chat_pb2.TURN_STATE_INTERRUPTED
            resumed = list(other.chat.resume(turn_id))
        finally:
            pair.one.start()
    assert _kinds(resumed)[-1] == "interrupted"
    assert LONG.startswith(_said(resumed))
    assert _said(resumed)


def test_the_client_goes_on_where_its_server_ended(pair, ada):
    """The stream breaks with the server, and is resumed on the one that comes back."""
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        session = other.memory.create_session().session_id
        stream = one.chat.stream(session, "long", options=PLAIN)
        _, first = _begun(stream)
        seen, thread, failed = _in_thread(stream)
        os.kill(pair.one.pid, signal.SIGKILL)
        pair.one.process.wait(10)
        pair.one.start()
        thread.join(60)
    events = first + seen
    assert not failed
    assert _kinds(events)[-1] == "interrupted"
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    assert LONG.startswith(_said(events))


SHARED = chat_pb2.ChatOptions(
    context=memory_pb2.ContextOptions(profile=memory_pb2.CONTEXT_PROFILE_BUFFER)
)


def test_the_same_question_asked_at_once_is_one_call_of_the_model(pair, ada, mock):
    text = unique("slow")
    with (
        pair.one.client(ada) as one,
        pair.other.client(ada) as other,
        ThreadPoolExecutor(8) as pool,
    ):

        def ask(number: int) -> list:
            client = (one, other)[number % 2]
            session = client.memory.create_session().session_id
            return list(client.chat.stream(session, text, options=SHARED))

        asked = list(pool.map(ask, range(8)))
    assert [_said(events) for events in asked] == [SLOW] * 8
    assert all(_kinds(events).count("delta") > 20 for events in asked)
    turns = [events[-1].done.turn for events in asked]
    assert sorted(turn.cache.hit for turn in turns) == [False] + [True] * 7
    assert sum(turn.usage.output_tokens > 0 for turn in turns) <= 1
    assert len({turn.reply.message_id for turn in turns}) == 8
    assert _calls(mock, text) == 1


def test_a_leader_that_dies_is_replaced_and_the_reply_starts_over(pair, ada, mock):
    text = unique("slow")
    with pair.one.client(ada) as one, pair.other.client(ada) as other:
        sessions = [other.memory.create_session().session_id for _ in range(2)]
        _begun(one.chat.stream(sessions[0], text, options=SHARED))
        following = other.chat.stream(sessions[1], text, options=SHARED)
        _, seen = _begun(following)
        os.kill(pair.one.pid, signal.SIGKILL)
        try:
            seen += list(following)
        finally:
            pair.one.process.wait(10)
            pair.one.start()
        over = [n for n, event in enumerate(seen) if event.WhichOneof("kind") == "started"][-1]
        assert [event.started.attempt for event in (seen[0], seen[over])] == [1, 2]
        assert _said(seen[over:]) == SLOW
        assert _calls(mock, text) == 2
        resumed = list(other.chat.resume(seen[0].started.turn_id, after_sequence=9, attempt=1))
        assert _plain(resumed) == _plain(seen[over:])


def test_an_answer_that_was_cut_or_calls_a_tool_is_not_cached(pair, ada, mock):
    with pair.one.client(ada) as client:
        for text in (unique("cut"), unique("tool")):
            for _ in range(2):
                session = client.memory.create_session().session_id
                turn = client.chat.send(session, text, options=SHARED)
                assert (turn.cache.hit, turn.cache.entry_id) == (False, "")
            assert _calls(mock, text) == 2


def test_an_ephemeral_session_has_no_turns_and_says_so(pair, ada):
    with pair.one.client(ada) as client:
        session = client.memory.create_session(retention=memory_pb2.RETENTION_EPHEMERAL).session_id
        with pytest.raises(errors.FailedPrecondition) as caught:
            client.chat.send(session, "quick")
        assert caught.value.reason == "SESSION_EPHEMERAL"

"""Valkey is emptied, killed and started again under load: durable memory does not notice."""

import random
import threading
import time

import pytest
from tests.harness import RunningServer, unique
from tests.stores.valkey.valkey_server import Server as Valkey

from recollect import errors
from recollect.v1 import memory_pb2
from recollect.v1.common_pb2 import MEMORY_KIND_TURN

CLIENTS = 16
SECONDS = 8


@pytest.fixture(scope="module")
def valkey():
    made = Valkey()
    made.start()
    yield made
    made.close()


@pytest.fixture(scope="module")
def served(valkey):
    with RunningServer(environment={"VALKEY_URL": valkey.url("valkey")}) as running:
        yield running


def _shown(context: memory_pb2.GetContextResponse) -> list[str]:
    return [message.parts[0].text for message in context.messages]


def _use(server: RunningServer, session: str, ends: float, failures: list[str]) -> None:
    profile = memory_pb2.CONTEXT_PROFILE_BUFFER
    options = memory_pb2.ContextOptions(profile=profile)
    with server.client("ada") as client:
        written: list[str] = []
        try:
            while time.monotonic() < ends:
                written.append(f"{session}.{len(written)}")
                client.memory.append_messages(session, [written[-1]])
                shown = _shown(client.memory.get_context(session, options=options))
                if shown != written[-20:]:
                    failures.append(f"{session} shows {shown[-3:]} of {written[-3:]}")
            listed = [m.parts[0].text for m in client.memory.list_messages(session)]
            if listed != written:
                failures.append(f"{session} lists {len(listed)} of {len(written)}")
        except errors.RecollectError as error:
            failures.append(f"{session}: {error!r}")


def test_flushes_and_crashes_of_valkey_cost_no_call_and_no_message(served, valkey):
    sessions = [unique("s") for _ in range(CLIENTS)]
    with served.client("ada") as client:
        for session in sessions:
            client.memory.create_session(session_id=session)
    failures: list[str] = []
    ends = time.monotonic() + SECONDS
    threads = [
        threading.Thread(target=_use, args=(served, session, ends, failures))
        for session in sessions
    ]
    for thread in threads:
        thread.start()
    while time.monotonic() < ends:
        if random.random() < 0.7:
            valkey.admin.flushall()
        else:
            valkey.kill()
            valkey.start()
        time.sleep(random.uniform(0.05, 0.4))
    for thread in threads:
        thread.join(60)
    assert not failures


def test_an_ephemeral_session_is_used_like_any_other_and_lost_with_valkey(served, valkey):
    with served.client(unique("eve")) as client:
        made = client.memory.create_session(retention=memory_pb2.RETENTION_EPHEMERAL, title="t")
        session = made.session_id
        assert (made.retention, made.idle_ttl.seconds) == (memory_pb2.RETENTION_EPHEMERAL, 3600)
        client.memory.remember(["Has a red kite"])
        client.memory.append_messages(session, ["What colour is my kite?"])
        context = client.memory.get_context(session)
        assert _shown(context) == ["What colour is my kite?"]
        assert "Has a red kite" in context.system
        assert not [*client.memory.list_sessions()]
        assert client.memory.update_session(session, title="u").title == "u"
        assert client.memory.clear_session(session).window_start == 2
        assert not client.memory.get_context(session).messages
        with pytest.raises(errors.AlreadyExists):
            client.memory.create_session(session_id=session)
        durable = client.memory.create_session().session_id
        with pytest.raises(errors.AlreadyExists):
            client.memory.create_session(
                session_id=durable, retention=memory_pb2.RETENTION_EPHEMERAL
            )
        assert not client.memory.recall("colour", kinds=[MEMORY_KIND_TURN]).hits
        valkey.admin.flushall()
        for call in (client.memory.get_session, client.memory.get_context):
            with pytest.raises(errors.NotFound) as caught:
                call(session)
            assert caught.value.reason == "SESSION_NOT_FOUND"


def test_a_repeated_creation_of_an_ephemeral_session_gives_the_same_one(served):
    request = {
        "retention": memory_pb2.RETENTION_EPHEMERAL,
        "request_id": "7b0e7f0e-7d0f-4a6e-9c55-0d9a3a1f4c12",
    }
    with served.client(unique("eve")) as client:
        assert client.memory.create_session(**request) == client.memory.create_session(**request)
        with pytest.raises(errors.FailedPrecondition) as caught:
            client.memory.create_session(**request, title="other")
        assert caught.value.reason == "REQUEST_ID_REUSED"


def test_an_ephemeral_session_cannot_be_chatted_in_nor_summarised(served):
    with served.client(unique("eve")) as client:
        session = client.memory.create_session(retention=memory_pb2.RETENTION_EPHEMERAL).session_id
        client.memory.append_messages(session, ["x"] * 20)
        for call in (
            lambda: client.chat.send(session, "hi"),
            lambda: client.memory.compact_session(session),
            lambda: next(iter(client.memory.watch(session_id=session))),
        ):
            with pytest.raises((errors.FailedPrecondition, errors.NotFound)):
                call()

"""The Python client against a server that fails on demand; both clients by one suite."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, closing
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

import recollect
from recollect import AsyncRecollect, Recollect, errors
from recollect.v1 import (
    admin_pb2,
    cache_pb2,
    chat_pb2,
    chat_pb2_grpc,
    memory_pb2,
    memory_pb2_grpc,
)


class Memory(memory_pb2_grpc.MemoryServiceServicer):
    """Answers what a test asks for by the session's id."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.metadata: dict[str, Any] = {}
        self.waits = asyncio.Event()

    async def AppendMessages(self, request, context):
        self.seen.append(request)
        self.metadata = dict(context.invocation_metadata())
        if request.session_id == "flaky" and len(self.seen) < 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        if request.session_id == "slow":
            self.waits.set()
            await asyncio.sleep(30)
        if request.session_id == "bad":
            await self._abort(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        if request.session_id == "stale":
            await self._abort(context, grpc.StatusCode.ABORTED, "REVISION_MISMATCH")
        return memory_pb2.AppendMessagesResponse(session_revision=7)

    async def ListSessions(self, request, context):
        start = int(request.page_token or 0)
        names = [str(n) for n in range(start, min(start + 2, 5))]
        return memory_pb2.ListSessionsResponse(
            sessions=[memory_pb2.Session(session_id=n, user_id=request.user_id) for n in names],
            next_page_token=str(start + 2) if start + 2 < 5 else "",
        )

    async def DeleteSession(self, request, context):
        self.seen.append(request)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")

    @staticmethod
    async def _abort(context, code, reason):
        details = [
            error_details_pb2.ErrorInfo(
                domain="recollect", reason=reason, metadata={"current_revision": "9"}
            ),
            error_details_pb2.BadRequest(
                field_violations=[{"field": "messages[0].role", "description": "must be set"}]
            ),
            error_details_pb2.RetryInfo(retry_delay={"nanos": 500_000_000}),
        ]
        status = status_pb2.Status(code=code.value[0], message="no")
        for detail in details:
            packed = any_pb2.Any()
            packed.Pack(detail)
            status.details.append(packed)
        await context.abort(
            code,
            "no",
            (
                ("grpc-status-details-bin", status.SerializeToString()),
                ("x-request-id", "call-7"),
            ),
        )


class Chat(chat_pb2_grpc.ChatServiceServicer):
    """Streams without end."""

    def __init__(self) -> None:
        self.cancelled = asyncio.Event()

    async def StreamChat(self, request, context):
        if request.session_id == "breaks":
            started = chat_pb2.ChatStarted(turn_id="t")
            yield chat_pb2.StreamChatResponse(event=chat_pb2.ChatEvent(sequence=1, started=started))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "broke off")
        sequence = 0
        try:
            while True:
                sequence += 1
                yield chat_pb2.StreamChatResponse(event=chat_pb2.ChatEvent(sequence=sequence))
                await asyncio.sleep(0.005)
        finally:
            self.cancelled.set()

    async def ResumeChat(self, request, context):
        assert (request.user_id, request.turn_id) == ("ada", "t")
        if request.after_sequence == 3:
            await Memory._abort(context, grpc.StatusCode.UNAVAILABLE, "MODEL_UNAVAILABLE")
        event = chat_pb2.ChatEvent(sequence=request.after_sequence + 1)
        yield chat_pb2.ResumeChatResponse(event=event)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "broke off again")


class Peer:
    """The server, and calls through either client."""

    def __init__(self, kind: str) -> None:
        self.memory, self.chat = Memory(), Chat()
        self.server = grpc.aio.server()
        memory_pb2_grpc.add_MemoryServiceServicer_to_server(self.memory, self.server)
        chat_pb2_grpc.add_ChatServiceServicer_to_server(self.chat, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self._kind = kind

    async def append(self, session: str, *, client: dict[str, Any] | None = None, **more):
        values = {"user_id": "ada"} | (client or {})
        if self._kind == "async":
            async with AsyncRecollect(self.address, **values) as opened:
                return await opened.memory.append_messages(session, ["x"], **more)

        def call():
            with Recollect(self.address, **values) as opened:
                return opened.memory.append_messages(session, ["x"], **more)

        return await asyncio.to_thread(call)

    async def delete(self, session: str) -> None:
        if self._kind == "async":
            async with AsyncRecollect(self.address, user_id="ada") as opened:
                return await opened.memory.delete_session(session)

        def call():
            with Recollect(self.address, user_id="ada") as opened:
                return opened.memory.delete_session(session)

        return await asyncio.to_thread(call)

    async def sessions(self) -> list[str]:
        if self._kind == "async":
            async with AsyncRecollect(self.address, user_id="ada") as opened:
                return [s.session_id async for s in opened.memory.list_sessions()]

        def call():
            with Recollect(self.address, user_id="ada") as opened:
                return [s.session_id for s in opened.memory.list_sessions()]

        return await asyncio.to_thread(call)

    async def stream(self, session: str, most: int) -> list[int]:
        if self._kind == "async":
            async with AsyncRecollect(self.address, user_id="ada") as opened:
                events: AsyncIterator = opened.chat.stream(session, "x")
                seen = []
                async with aclosing(events):
                    async for event in events:
                        seen.append(event.sequence)
                        if len(seen) == most:
                            break
                return seen

        def call() -> list[int]:
            with Recollect(self.address, user_id="ada") as opened:
                events: Iterator = opened.chat.stream(session, "x")
                with closing(events):
                    return [next(events).sequence for _ in range(most)]

        return await asyncio.to_thread(call)


@pytest.fixture(params=["sync", "async"])
async def peer(request):
    made = Peer(request.param)
    await made.server.start()
    yield made
    await made.server.stop(None)


async def test_an_unavailable_server_is_asked_again_with_the_same_request_id(peer):
    assert (await peer.append("flaky")).session_revision == 7
    assert len(peer.memory.seen) == 3
    assert len({request.request_id for request in peer.memory.seen}) == 1
    assert peer.memory.seen[0].request_id


async def test_a_deletion_is_repeated_with_its_request_id_too(peer):
    with pytest.raises(errors.Unavailable):
        await peer.delete("s")
    assert len(peer.memory.seen) == 5
    assert len({request.request_id for request in peer.memory.seen}) == 1


async def test_each_call_has_a_request_id_of_its_own_unless_one_is_given(peer):
    await peer.append("s")
    await peer.append("s")
    await peer.append("s", request_id="mine")
    ids = [request.request_id for request in peer.memory.seen]
    assert len(set(ids)) == 3
    assert ids[2] == "mine"


async def test_a_slow_call_ends_at_its_deadline(peer):
    with pytest.raises(errors.DeadlineExceeded):
        await peer.append("slow", timeout=0.2)
    with pytest.raises(errors.DeadlineExceeded):
        await peer.append("slow", client={"timeout": 0.2})


async def test_a_client_that_was_closed_says_so_and_repeats_nothing(peer):
    waiting = Recollect(peer.address, user_id="ada")
    slow = asyncio.create_task(asyncio.to_thread(waiting.memory.append_messages, "slow", ["x"]))
    async with asyncio.timeout(10):
        await peer.memory.waits.wait()
    waiting.close()
    closed = AsyncRecollect(peer.address, user_id="ada")
    await closed.close()
    for call in (slow, closed.memory.append_messages("s", ["x"])):
        with pytest.raises(errors.Closed):
            await call
    assert len(peer.memory.seen) == 1


async def test_an_error_carries_the_rich_details(peer):
    with pytest.raises(errors.InvalidArgument) as caught:
        await peer.append("bad")
    error = caught.value
    assert (error.code, error.message) == (grpc.StatusCode.INVALID_ARGUMENT, "no")
    assert (error.reason, error.call_id) == ("INVALID_FIELD", "call-7")
    assert error.field_violations == (("messages[0].role", "must be set"),)
    assert error.retry_after == 0.5


async def test_a_revision_mismatch_says_the_current_one(peer):
    with pytest.raises(errors.RevisionMismatch) as caught:
        await peer.append("stale")
    assert caught.value.current_revision == 9
    assert isinstance(caught.value, errors.Aborted)


async def test_lists_go_over_all_pages(peer):
    assert await peer.sessions() == ["0", "1", "2", "3", "4"]


async def test_leaving_a_stream_early_ends_it_on_the_server(peer):
    assert await peer.stream("s", 3) == [1, 2, 3]
    async with asyncio.timeout(10):
        await peer.chat.cancelled.wait()


async def test_a_chat_stream_that_breaks_goes_on_after_the_last_event(peer):
    assert await peer.stream("breaks", 3) == [1, 2, 3]


async def test_a_chat_stream_ends_with_the_failure_of_its_turn(peer):
    with pytest.raises(errors.Unavailable) as caught:
        await peer.stream("breaks", 4)
    assert caught.value.reason == "MODEL_UNAVAILABLE"


async def test_the_key_is_sent_and_the_user_can_be_said_a_call(peer):
    await peer.append("s", client={"api_key": "secret"}, user_id="bob")
    assert peer.memory.metadata["authorization"] == "Bearer secret"
    assert peer.memory.seen[0].user_id == "bob"


async def test_a_call_without_a_user_is_refused_before_it_is_sent(peer):
    with pytest.raises(ValueError, match="user_id"):
        await peer.append("s", client={"user_id": None})
    assert not peer.memory.seen


@pytest.mark.parametrize("kind", [Recollect, AsyncRecollect])
def test_a_certificate_is_shown_over_tls_alone(kind):
    with pytest.raises(ValueError, match="tls=True"):
        kind(client_certificate=(b"chain", b"key"))


@pytest.mark.parametrize("kind", [Recollect, AsyncRecollect])
@pytest.mark.parametrize("address", ["example.com:443", "10.0.0.1:50051"])
async def test_a_key_does_not_cross_the_network_in_plain_text(kind, address):
    with pytest.raises(ValueError, match="plain text"):
        kind(address, api_key="k")
    for allowed in (
        kind(address, api_key="k", tls=True),
        kind(address, api_key="k", insecure=True),
    ):
        closed = allowed.close()
        if inspect.isawaitable(closed):
            await closed


def test_the_environment_is_read_when_asked(monkeypatch):
    monkeypatch.setenv("RECOLLECT_ADDRESS", "127.0.0.1:9")
    monkeypatch.setenv("RECOLLECT_API_KEY", "k")
    monkeypatch.setenv("RECOLLECT_USER_ID", "ada")
    with Recollect.from_env() as client:
        settings = client._transport.settings
    assert (settings.address, settings.api_key, settings.user_id) == ("127.0.0.1:9", "k", "ada")
    assert "k" not in repr(settings).replace("127.0.0.1:9", "").split("address")[0]


def test_the_exported_names_are_these():
    assert recollect.__all__ == [
        "AsyncRecollect",
        "Recollect",
        "assistant",
        "errors",
        "system",
        "tool_result",
        "user",
    ]


RENAMED = {
    "Chat": "send",
    "StreamChat": "stream",
    "ResumeChat": "resume",
}
PARTS = {"MemoryService": "memory", "CacheService": "cache", "ChatService": "chat"}


def _method_name(name: str) -> str:
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
    return RENAMED.get(name, snake)


def _expected() -> dict[str, set[str]]:
    return {
        PARTS.get(service.name, "admin"): {_method_name(m.name) for m in service.methods}
        for module in (memory_pb2, cache_pb2, chat_pb2, admin_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    }


async def test_both_clients_have_a_method_for_every_rpc_with_the_same_parameters():
    async with AsyncRecollect() as awaiting:
        with Recollect() as blocking:
            for part, names in _expected().items():
                one, other = getattr(blocking, part), getattr(awaiting, part)
                assert {n for n in dir(one) if not n.startswith("_")} == names
                assert {n for n in dir(other) if not n.startswith("_")} == names
                for name in names:
                    mine = inspect.signature(getattr(one, name)).parameters
                    theirs = inspect.signature(getattr(other, name)).parameters
                    assert [str(p) for p in mine.values()] == [str(p) for p in theirs.values()]
                    assert inspect.getdoc(getattr(one, name))

"""What `recollect bench load` measures: each method with the users and data that it needs."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message

from recollect.v1 import cache_pb2, chat_pb2, common_pb2, memory_pb2
from recollect_server.bench.connection import (
    Backlog,
    Connection,
    LoadError,
    append_request,
    context_request,
)
from recollect_server.bench.echo import EchoClient
from recollect_server.bench.slices import Call
from recollect_server.bench.texts import Texts

WINDOW = 20
RECALL_TURNS = 200
RECALL_BATCH = 50
TOP_K = 10
PROMPT_MESSAGES = 5
REPLY_LINES = 3
REPLY_WORDS = 130
"""Words of a line: three make a reply of some 400 words, a long answer of a model."""

MOST_TRIES = 20
PAUSE_SECONDS = 0.1
"""How often, and after what pause, a call that misses is made again until there is an answer to
echo."""

SESSION = "main"


@dataclass(frozen=True, slots=True)
class Workload:
    """A method and its yardstick.

    Attributes:
        call: one call of the method.
        echo: one call of a method of the echo server, with the same request and response.
        settle: waits until the calls left nothing to do.
    """

    name: str
    call: Call
    echo: Call
    settle: Callable[[], Awaitable[None]] | None = None


class Workloads:
    """Prepares users, each caller's own, and makes the workloads.

    Every method raises `grpc.aio.AioRpcError`, and `LoadError` when the server's answers are not
    what is to be measured.

    Args:
        run_id: part of the users' names, so that a server may hold other data.
        callers: how many callers there will be.
    """

    def __init__(self, connection: Connection, echo: EchoClient, run_id: str, callers: int) -> None:
        self._connection = connection
        self._echo = echo
        self._run_id = run_id
        self._callers = callers
        self._texts = Texts(1)

    async def get_context(self) -> Workload:
        """Windows of 20 messages, in the cache, at the session's revision."""
        users = await self._users("context")
        for user in users:
            await self._connection.append(user, SESSION, self._messages(WINDOW))
        requests = [context_request(user, SESSION) for user in users]

        def check(response: memory_pb2.GetContextResponse) -> bool:
            if len(response.messages) != WINDOW or response.degradations:
                raise LoadError(f"GetContext: {len(response.messages)} messages, not {WINDOW}")
            return True

        stub = self._connection.memory.GetContext
        return await self._unary("GetContext", stub, requests.__getitem__, check)

    async def append_messages(self) -> Workload:
        """One message a call, each with a request id."""
        users = await self._users("append")
        backlog = Backlog(self._connection, users)
        await backlog.open()

        def request(number: int) -> Message:
            return append_request(users[number], SESSION, [self._texts.message()])

        stub = self._connection.memory.AppendMessages
        return await self._unary("AppendMessages", stub, request, _accept, backlog.drain)

    async def lookup_exact(self) -> Workload:
        """Answers of the exact tier: a call misses only where Valkey is too slow for it."""
        users = await self._users("exact")
        prompts = [self._prompt(self._texts.question()) for _ in users]
        await self._store(users, prompts)
        tiers = [cache_pb2.CACHE_TIER_EXACT]
        requests = [
            cache_pb2.LookupRequest(user_id=user, prompt=prompt, tiers=tiers)
            for user, prompt in zip(users, prompts, strict=True)
        ]

        def check(response: cache_pb2.LookupResponse) -> bool:
            if not response.hit and not response.degradations:
                raise LoadError("LookupExact: a miss where an answer is stored")
            return response.hit

        stub = self._connection.cache.Lookup
        return await self._unary("LookupExact", stub, requests.__getitem__, check)

    async def lookup_semantic(self) -> Workload | None:
        """Return lookups that ask the same in other words, None if the server has no answer."""
        users = await self._users("semantic")
        history = [self._messages(PROMPT_MESSAGES - 1) for _ in users]
        await self._store(users, [prompt_of(h, "What is the capital of France?") for h in history])
        tiers = [cache_pb2.CACHE_TIER_SEMANTIC]
        requests = [
            cache_pb2.LookupRequest(
                user_id=user,
                prompt=prompt_of(said, "What's the capital of France?"),
                tiers=tiers,
                max_false_hit_rate=0.5,
            )
            for user, said in zip(users, history, strict=True)
        ]
        stub: Any = self._connection.cache.Lookup
        try:
            first = await asyncio.gather(*(stub(r, **self._connection.options) for r in requests))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return None
            raise
        if not all(response.hit for response in first):
            return None
        return await self._unary("LookupSemantic", stub, requests.__getitem__, _accept)

    async def recall(self, progress: Callable[[int, int], None]) -> tuple[Workload, float]:
        """Return recalls over 200 embedded turns a user, and how many were embedded a second.

        Each call asks a question of its own, so that its embedding is part of it.
        """
        users = await self._users("recall")
        started = time.perf_counter()
        revisions = []
        for user in users:
            for _ in range(RECALL_TURNS // RECALL_BATCH):
                texts = self._messages(RECALL_BATCH)
                revision = await self._connection.append(user, SESSION, texts)
            revisions.append(revision)
        for done, (user, revision) in enumerate(zip(users, revisions, strict=True), start=1):
            await self._connection.wait_indexed(user, revision)
            progress(done, len(users))
        embedded_per_s = len(users) * RECALL_TURNS / (time.perf_counter() - started)

        def request(number: int) -> Message:
            return memory_pb2.RecallRequest(
                user_id=users[number], query=self._texts.question(), top_k=TOP_K
            )

        def check(response: memory_pb2.RecallResponse) -> bool:
            if not response.hits or response.degradations:
                raise LoadError("Recall: nothing found, or by words only")
            return True

        stub = self._connection.memory.Recall
        return await self._unary("Recall", stub, request, check), embedded_per_s

    async def stream_chat(self) -> tuple[Workload, int]:
        """Return turns whose things are deltas, and how many deltas a turn has.

        The offline provider quotes the lines of the system prompt that share a word with the
        message, so replies have a length that does not depend on the turns before.
        """
        users = await self._users("chat", window_size=2)
        backlog = Backlog(self._connection, users)
        await backlog.open()
        lines = [f"- Telescope: {self._texts.paragraph(REPLY_WORDS)}" for _ in range(REPLY_LINES)]
        options = chat_pb2.ChatOptions(
            system="\n".join(lines),
            context=memory_pb2.ContextOptions(profile=memory_pb2.CONTEXT_PROFILE_BUFFER),
            cache=chat_pb2.ChatCacheOptions(mode=chat_pb2.CACHE_MODE_OFF),
        )

        def request(number: int) -> chat_pb2.StreamChatRequest:
            text = f"What about the telescope? {self._texts.sentence()}"
            part = common_pb2.ContentPart(text=text)
            message = memory_pb2.NewMessage(role=common_pb2.ROLE_USER, parts=[part])
            return chat_pb2.StreamChatRequest(
                user_id=users[number], session_id=SESSION, message=message, options=options
            )

        stub = self._connection.chat.StreamChat
        sample = [r async for r in stub(request(0), **self._connection.options)]
        deltas = sum(response.event.HasField("delta") for response in sample)
        if not deltas or not sample[-1].event.HasField("done"):
            raise LoadError("StreamChat: a stream without a delta, or not done")
        echo = await self._echo.stream("StreamChat", sample)

        async def stream(method: Callable[..., Any], number: int) -> int:
            seen = 0
            async for response in method(request(number), **self._connection.options):
                seen += response.event.HasField("delta")
            return seen

        workload = Workload(
            "StreamChat",
            lambda number: stream(stub, number),
            lambda number: stream(echo, number),
            backlog.drain,
        )
        return workload, deltas

    async def _unary(
        self,
        name: str,
        stub: Callable[..., Any],
        request: Callable[[int], Message],
        check: Callable[[Any], bool],
        settle: Callable[[], Awaitable[None]] | None = None,
    ) -> Workload:
        """Make a workload; `check` returns False for a miss, and raises for any other answer."""
        options = self._connection.options
        for _ in range(MOST_TRIES):
            sample = await stub(request(0), **options)
            if check(sample):
                break
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            raise LoadError(f"{name}: every call missed")
        echo = await self._echo.unary(name, sample)

        async def once(method: Callable[..., Any], number: int) -> int:
            return int(check(await method(request(number), **options)))

        return Workload(
            name, lambda number: once(stub, number), lambda number: once(echo, number), settle
        )

    async def _users(self, kind: str, window_size: int = 0) -> list[str]:
        """Return a user for each caller, with an empty session."""
        users = [f"bench-{self._run_id}-{kind}-{number}" for number in range(self._callers)]
        await asyncio.gather(
            *(self._connection.create_session(u, SESSION, window_size) for u in users)
        )
        return users

    def _messages(self, count: int) -> list[str]:
        return [self._texts.message() for _ in range(count)]

    def _prompt(self, question: str) -> common_pb2.Prompt:
        return prompt_of(self._messages(PROMPT_MESSAGES - 1), question)

    async def _store(self, users: Sequence[str], prompts: Sequence[common_pb2.Prompt]) -> None:
        for user, prompt in zip(users, prompts, strict=True):
            request = cache_pb2.StoreRequest(
                user_id=user,
                prompt=prompt,
                answer=[common_pb2.ContentPart(text=self._texts.message())],
            )
            request.ttl.FromSeconds(24 * 3600)
            await self._connection.cache.Store(request, **self._connection.options)


def _accept(response: object) -> bool:
    """Check nothing."""
    return True


def prompt_of(said: Sequence[str], question: str) -> common_pb2.Prompt:
    """Return the prompt of a conversation that ends with a question; user and model take turns."""
    roles = (common_pb2.ROLE_USER, common_pb2.ROLE_ASSISTANT)
    return common_pb2.Prompt(
        model="bench",
        messages=[
            common_pb2.PromptMessage(
                role=roles[position % 2], parts=[common_pb2.ContentPart(text=text)]
            )
            for position, text in enumerate((*said, question))
        ],
    )

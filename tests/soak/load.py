"""A steady mixed load through the Python client as it comes: memory, chat and the answer cache."""

import asyncio
import uuid
from dataclasses import dataclass, field
from random import Random

import grpc
from tests.faults.connection import PATIENCE_SECONDS
from tests.faults.history import Done, Failed, Other, Outcome
from tests.faults.workload import Actor, Place, Workload
from tests.soak.stack import REPLY

from recollect import AsyncRecollect
from recollect._settings import DEFAULT_TIMEOUT, OPTIONS
from recollect.v1 import cache_pb2, chat_pb2, common_pb2
from recollect.v1 import memory_pb2 as pb

CALLERS = 4
PAUSE_SECONDS = 1.2
_PLAIN = chat_pb2.ChatOptions(
    cache=chat_pb2.ChatCacheOptions(mode=chat_pb2.CACHE_MODE_OFF),
    context=pb.ContextOptions(profile=pb.CONTEXT_PROFILE_BUFFER),
)


@dataclass(slots=True)
class Caller(Actor):
    """One client of the load, with a session of its own to chat in.

    Attributes:
        said: what it said there, of turns that were answered.
    """

    said: list[str] = field(default_factory=list)

    @property
    def chat_place(self) -> Place:
        """Its own session."""
        return Place(self.load.places[0].user, f"chat{self.load.seed}-{self.number}")

    async def run(self, stop: asyncio.Event) -> None:
        """Act now and then until `stop`."""
        place = self.chat_place
        await self.client.memory.create_session(session_id=place.session, user_id=place.user)
        while not stop.is_set():
            doing = self.random.choices((self.act, self.chat, self.ask), (8, 1, 1))[0]
            await doing()
            await asyncio.sleep(self.random.uniform(0.5, 1.5) * PAUSE_SECONDS)

    async def chat(self) -> None:
        """Say something until it is answered."""
        text, request_id, place = self._text(), str(uuid.uuid4()), self.chat_place

        async def answered() -> Outcome:
            turn = await self.client.chat.send(
                place.session,
                text,
                options=_PLAIN,
                request_id=request_id,
                user_id=place.user,
                timeout=PATIENCE_SECONDS,
            )
            if turn.state != chat_pb2.TURN_STATE_DONE:
                return Failed(f"the turn is {turn}")
            return Done()

        outcome = await self._until_answered("", Other("Chat", (text,)), answered)
        if isinstance(outcome, Done):
            self.said.append(text)

    async def ask(self) -> None:
        """Store an answer and look it up: it may be gone, but never be another one."""
        text, user = self._text(), self.random.choice(self.load.places).user
        message = common_pb2.PromptMessage(
            role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text=f"Why does {text}?")]
        )
        prompt = common_pb2.Prompt(model="m", messages=[message])

        async def store() -> Outcome:
            await self.client.cache.store(prompt, text, user_id=user)
            return Done()

        async def look_up() -> Outcome:
            found = await self.client.cache.lookup(
                prompt, user_id=user, tiers=[cache_pb2.CACHE_TIER_EXACT]
            )
            if found.hit and found.entry.answer[0].text != text:
                return Failed(f"another answer: {found.entry}")
            return Done()

        stored = await self._once("", Other("Store", (text,)), store)
        if isinstance(stored, Done):
            await self._once("", Other("Lookup", (text,)), look_up)

    async def wrong_chat(self) -> list[str]:
        """Return how its chat differs from what it was told, in sentences."""
        place = self.chat_place
        listed = self.client.memory.list_messages(place.session, user_id=place.user)
        texts = [message.parts[0].text async for message in listed]
        expected = [text for said in self.said for text in (said, REPLY)]
        return [] if texts == expected else [f"{place.name} holds {texts}, not {expected}"]


class Callers:
    """The callers of a load, each with a connection of its own, in `async with`."""

    def __init__(self, load: Workload) -> None:
        self.load = load
        load.call_seconds = DEFAULT_TIMEOUT
        self.callers: list[Caller] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Act until `stop`; raise what a caller failed with."""
        async with asyncio.TaskGroup() as group:
            for caller in self.callers:
                group.create_task(caller.run(stop))

    async def __aenter__(self) -> "Callers":
        for number in range(CALLERS):
            # A caller alone in its process has a connection of its own.
            options = [*OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
            channel = grpc.aio.insecure_channel(self.load.address, options)
            client = AsyncRecollect(self.load.address, channel=channel)
            chance = Random(f"{self.load.seed}/{number}")
            self.callers.append(Caller(self.load, client, channel, number, chance))
        return self

    async def __aexit__(self, *error: object) -> None:
        for caller in self.callers:
            await caller.channel.close()

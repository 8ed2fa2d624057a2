"""A mixed load of concurrent clients that outlives its server, with everything recorded."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random

import grpc
from tests.faults.history import (
    Append,
    Appended,
    Call,
    Done,
    Failed,
    History,
    Other,
    Outcome,
    Read,
    Refused,
    Request,
    Seen,
    Unknown,
)

from recollect import AsyncRecollect, errors
from recollect._settings import OPTIONS
from recollect.v1 import memory_pb2 as pb

CLIENTS = 16
WINDOW = 20
CALL_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
"""How long a write is repeated, and a server waited for, before the load gives up."""

PAGES = (50, 1000)
_RECONNECT = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]
_UNKNOWN = (errors.Unavailable, errors.DeadlineExceeded, errors.Cancelled)
_TOPICS = ("garden", "museum", "bicycle", "harbour", "orchestra", "kitchen", "glacier", "library")


@dataclass(frozen=True, slots=True)
class Place:
    """A session of a user."""

    user: str
    session: str

    @property
    def name(self) -> str:
        """Its name in a history."""
        return f"{self.user}/{self.session}"


@dataclass(slots=True)
class Workload:
    """What the clients do; their choices depend on the seed alone, their timing does not.

    Attributes:
        name: is part of every user, so loads on one server do not meet.
        revisions: the newest revision of each session that a client was told.
        user_revisions: the newest revision of each user that acknowledged a write.
        facts: user and text of the facts that were acknowledged.
    """

    address: str
    seed: int
    name: str = "load"
    users: int = 2
    sessions: int = 2
    history: History = field(default_factory=History)
    revisions: dict[str, int] = field(default_factory=dict)
    user_revisions: dict[str, int] = field(default_factory=dict)
    facts: list[tuple[str, str]] = field(default_factory=list)

    @property
    def places(self) -> list[Place]:
        """The sessions."""
        return [
            Place(f"{self.name}-{self.seed}-{user}", f"s{session}")
            for user in range(self.users)
            for session in range(self.sessions)
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Create the sessions, load them until `stop` is set, and finish what was begun.

        Raises:
            TimeoutError: something got no answer for PATIENCE_SECONDS.
        """
        async with connected(self.address) as (client, _):
            for place in self.places:
                await client.memory.create_session(
                    session_id=place.session, user_id=place.user, window_size=WINDOW
                )
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number, stop))

    async def _client(self, number: int, stop: asyncio.Event) -> None:
        random = Random(f"{self.seed}/{number}")
        # With and without the client's own repeats, which hide lost connections from the history.
        async with connected(self.address, repeats=number % 2 == 0) as (client, channel):
            actor = Actor(self, client, channel, number, random)
            while not stop.is_set():
                await actor.act()


@dataclass(slots=True)
class Actor:
    """One client of a load.

    Attributes:
        number: its name in the history.
    """

    load: Workload
    client: AsyncRecollect
    channel: grpc.aio.Channel
    number: int
    random: Random
    made: int = 0

    async def act(self) -> None:
        """Do one thing to one session or its user, chosen at random."""
        place = self.random.choice(self.load.places)
        actions: list[tuple[int, Callable[[Place], Awaitable[None]]]] = [
            (10, self.append),
            (5, self.read),
            (2, self.context),
            (1, self.recall),
            (1, self.remember),
        ]
        weights, choices = zip(*actions, strict=True)
        await self.random.choices(choices, weights)[0](place)

    async def append(self, place: Place) -> None:
        """Append until it is answered; now and then ask again afterwards."""
        known = self.load.revisions.get(place.name, 1)
        # Never ahead of the session, so that what was refused once is refused for good.
        expected = self.random.choice([None, None, None, known, max(0, known - 1)])
        texts = tuple(self._text() for _ in range(self.random.randint(1, 3)))
        request = Append(self._request_id(), texts, expected)
        outcome = await self._until_answered(
            place.name, request, lambda: self._append(place, request)
        )
        if isinstance(outcome, Appended) and self.random.random() < 0.05:
            await self._once(place.name, request, lambda: self._append(place, request))

    async def read(self, place: Place) -> None:
        """Read the whole session: the revision by one call, the messages by another.

        A listing by pages, oldest first, is one read too: what the pages before the last one show
        does not change any more, so together they are the session when the last one was read.
        """
        size = self.random.choice(PAGES)

        async def messages() -> Outcome:
            listed = self.client.memory.list_messages(
                place.session, user_id=place.user, page_size=size, timeout=CALL_SECONDS
            )
            return _listed([message async for message in listed])

        await self._once(place.name, Read("GetSession"), lambda: self._session(place))
        await self._once(place.name, Read("ListMessages"), messages)

    async def context(self, place: Place) -> None:
        """Read the session's window."""

        async def window() -> Outcome:
            found = await self.client.memory.get_context(
                place.session,
                user_id=place.user,
                options=pb.ContextOptions(profile=pb.CONTEXT_PROFILE_BUFFER),
                timeout=CALL_SECONDS,
            )
            tail = tuple(message.parts[0].text for message in found.messages)
            return Seen(found.session_revision, tail=tail, tail_size=WINDOW)

        await self._once(place.name, Read("GetContext"), window)

    async def recall(self, place: Place) -> None:
        """Recall something; what is found must be the user's."""
        query = self.random.choice(_TOPICS)

        async def recalled() -> Outcome:
            found = await self.client.memory.recall(
                query, user_id=place.user, top_k=3, timeout=CALL_SECONDS
            )
            facts = [hit.fact.user_id for hit in found.hits if hit.HasField("fact")]
            strangers = [user for user in facts if user != place.user]
            return Failed(f"found facts of {strangers}") if strangers else Done()

        await self._once("", Other("Recall", (query,)), recalled)

    async def remember(self, place: Place) -> None:
        """Remember one fact until it is answered."""
        text, request_id = self._text(), self._request_id()

        async def remembered() -> Outcome:
            stored = await self.client.memory.remember(
                [text], user_id=place.user, request_id=request_id, timeout=CALL_SECONDS
            )
            return Done(stored.user_revision)

        outcome = await self._until_answered("", Other("Remember", (text,)), remembered)
        if isinstance(outcome, Done):
            self.load.facts.append((place.user, text))
            self._saw_user(place.user, outcome.user_revision)

    async def _append(self, place: Place, request: Append) -> Outcome:
        stored = await self.client.memory.append_messages(
            place.session,
            request.texts,
            expected_revision=request.expected_revision,
            request_id=request.request_id,
            user_id=place.user,
            timeout=CALL_SECONDS,
        )
        self._saw_user(place.user, stored.user_revision)
        return _appended(request, stored)

    async def _session(self, place: Place) -> Outcome:
        found = await self.client.memory.get_session(
            place.session, user_id=place.user, timeout=CALL_SECONDS
        )
        if found.message_count != found.last_sequence:
            return Failed(f"{found.message_count} messages, the last is {found.last_sequence}")
        return Seen(found.revision, found.last_sequence)

    async def _until_answered(
        self, session: str, request: Request, run: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        """Run a call, and again with its request id while its outcome is unknown.

        Raises:
            TimeoutError: there was no answer for PATIENCE_SECONDS.
        """
        deadline = time.monotonic() + PATIENCE_SECONDS
        while isinstance(outcome := await self._once(session, request, run), Unknown):
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer for {PATIENCE_SECONDS} s to {request}: {outcome}")
        return outcome

    async def _once(
        self, session: str, request: Request, run: Callable[[], Awaitable[Outcome]]
    ) -> Outcome:
        """Run a call, record it, and after a lost connection wait for the next one."""
        call = self.load.history.begin(self.number, session, request)
        try:
            outcome = await run()
        except errors.RecollectError as error:
            outcome = outcome_of(error)
        self.load.history.end(call, outcome)
        self._saw(call, outcome)
        if isinstance(outcome, Unknown):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.channel.channel_ready()
        return outcome

    def _saw(self, call: Call, outcome: Outcome) -> None:
        match outcome:
            case Appended(revision=int(revision)) | Seen(revision=int(revision)):
                revisions = self.load.revisions
                revisions[call.session] = max(revision, revisions.get(call.session, 1))
            case _:
                pass

    def _saw_user(self, user: str, revision: int) -> None:
        revisions = self.load.user_revisions
        revisions[user] = max(revision, revisions.get(user, 0))

    def _text(self) -> str:
        self.made += 1
        topic = self.random.choice(_TOPICS)
        return f"client {self.number} says its text {self.made} about the {topic}"

    def _request_id(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))


@asynccontextmanager
async def connected(
    address: str, *, repeats: bool = True
) -> AsyncIterator[tuple[AsyncRecollect, grpc.aio.Channel]]:
    """Yield a client with a connection of its own that is soon open again after a loss.

    Args:
        repeats: with the client's own repeats of calls that found no server.
    """
    options = [*(OPTIONS if repeats else [("grpc.enable_retries", 0)]), *_RECONNECT]
    async with grpc.aio.insecure_channel(address, options) as channel:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await channel.channel_ready()
        async with AsyncRecollect(address, channel=channel) as client:
            yield client, channel


def outcome_of(error: errors.RecollectError) -> Outcome:
    """Return what a failed call tells of its effect."""
    if isinstance(error, errors.RevisionMismatch):
        return Refused(error.current_revision)
    return Unknown(str(error)) if isinstance(error, _UNKNOWN) else Failed(str(error))


def _appended(request: Append, stored: pb.AppendMessagesResponse) -> Outcome:
    texts = tuple(message.parts[0].text for message in stored.messages)
    sequences = [message.sequence for message in stored.messages]
    if texts != request.texts or sequences != list(range(sequences[0], sequences[0] + len(texts))):
        return Failed(f"the answer says {list(zip(sequences, texts, strict=True))}")
    return Appended(sequences[0], sequences[-1], stored.session_revision, stored.user_revision)


def _listed(messages: list[pb.Message]) -> Outcome:
    sequences = [message.sequence for message in messages]
    if sequences != list(range(1, len(messages) + 1)):
        return Failed(f"the sequences are {sequences}")
    return Seen(texts=tuple(message.parts[0].text for message in messages))

"""A mixed load of concurrent clients that outlives its server, with everything recorded."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

import grpc
from tests.faults.connection import PATIENCE_SECONDS, RETRY_SECONDS, connected, outcome_of, repeats
from tests.faults.history import (
    Append,
    Appended,
    Call,
    Clear,
    Cleared,
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
from recollect.v1 import memory_pb2 as pb

CLIENTS = 16
WINDOW = 20
CALL_SECONDS = 5.0
ANY_SIZE = 1_000_000
"""A token budget that no session of a load reaches."""

PAGES = (50, 1000)
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


def users_of(name: str, number: int = 2) -> list[str]:
    """Return the users of the loads of a name."""
    return [f"{name}-{user}" for user in range(number)]


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that its caller saw fail.

    Attributes:
        at: seconds of `time.monotonic`.
        what: the method.
        how: the code, and the reason if the server gave one.
    """

    at: float
    what: str
    how: str


@dataclass(slots=True)
class Workload:
    """What the clients do; their choices depend on the seed alone, their timing does not.

    Attributes:
        name: is part of every user; loads of one name have the same users, each its own sessions.
        revisions: the newest revision of each session that a client was told.
        user_revisions: the newest revision of each user that acknowledged a write.
        facts: user and text of the facts that were acknowledged.
        failures: what callers saw fail, repeats of a client library's own left out.
        call_seconds: how long a call may take.
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
    failures: list[Failure] = field(default_factory=list)
    call_seconds: float = CALL_SECONDS

    @property
    def places(self) -> list[Place]:
        """The sessions."""
        return [
            Place(user, f"round{self.seed}-{session}")
            for user in users_of(self.name, self.users)
            for session in range(self.sessions)
        ]

    def listed(self, place: Place) -> tuple[str, ...] | None:
        """Return the texts of the last listing of a session, None if it was not answered."""
        listings = [c for c in self.history.of(place.name) if c.request == Read("ListMessages")]
        last = listings[-1].outcome if listings else None
        return last.texts if isinstance(last, Seen) else None

    async def begin(self) -> None:
        """Create the sessions."""
        async with connected(self.address) as (client, _):
            for place in self.places:
                await client.memory.create_session(
                    session_id=place.session, user_id=place.user, window_size=WINDOW
                )

    async def run(self, stop: asyncio.Event) -> None:
        """Load the sessions until `stop` is set, and finish what was begun.

        Raises:
            TimeoutError: something got no answer for PATIENCE_SECONDS.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._client(number, stop))

    async def _client(self, number: int, stop: asyncio.Event) -> None:
        random = Random(f"{self.seed}/{number}")
        async with connected(self.address, repeats=repeats(number)) as (client, channel):
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
            (20, self.append),
            (10, self.read),
            (4, self.context),
            (4, self.summary),
            (2, self.recall),
            (2, self.remember),
            (1, self.clear),
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
                place.session, user_id=place.user, page_size=size, timeout=self.load.call_seconds
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
                timeout=self.load.call_seconds,
            )
            tail = tuple(message.parts[0].text for message in found.messages)
            return Seen(found.session_revision, tail=tail, tail_size=WINDOW)

        await self._once(place.name, Read("GetContext"), window)

    async def summary(self, place: Place) -> None:
        """Read the summary and everything after it, which must be without a gap."""

        async def summarised() -> Outcome:
            found = await self.client.memory.get_context(
                place.session,
                user_id=place.user,
                options=pb.ContextOptions(
                    profile=pb.CONTEXT_PROFILE_SUMMARY, token_budget=ANY_SIZE
                ),
                timeout=self.load.call_seconds,
            )
            return _opened(found)

        await self._once(place.name, Read("GetContext"), summarised)

    async def clear(self, place: Place) -> None:
        """Clear the session's context; a lost answer is not asked for again."""

        async def cleared() -> Outcome:
            session = await self.client.memory.clear_session(
                place.session, user_id=place.user, timeout=self.load.call_seconds
            )
            return Cleared(session.revision)

        await self._once(place.name, Clear(), cleared)

    async def recall(self, place: Place) -> None:
        """Recall something; what is found must be the user's."""
        query = self.random.choice(_TOPICS)

        async def recalled() -> Outcome:
            found = await self.client.memory.recall(
                query, user_id=place.user, top_k=3, timeout=self.load.call_seconds
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
                [text], user_id=place.user, request_id=request_id, timeout=self.load.call_seconds
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
            timeout=self.load.call_seconds,
        )
        self._saw_user(place.user, stored.user_revision)
        return _appended(request, stored)

    async def _session(self, place: Place) -> Outcome:
        found = await self.client.memory.get_session(
            place.session, user_id=place.user, timeout=self.load.call_seconds
        )
        if found.message_count != found.last_sequence:
            return Failed(f"{found.message_count} messages, the last is {found.last_sequence}")
        return Seen(found.revision, found.last_sequence, through=found.summary.through_sequence)

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
            if not isinstance(outcome, Refused):
                how = " ".join(filter(None, (error.code.name, error.reason)))
                self.load.failures.append(Failure(time.monotonic(), _method(request), how))
        self.load.history.end(call, outcome)
        self._saw(call, outcome)
        if isinstance(outcome, Unknown):
            await asyncio.sleep(RETRY_SECONDS)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.channel.channel_ready()
        return outcome

    def _saw(self, call: Call, outcome: Outcome) -> None:
        match outcome:
            case (
                Appended(revision=int(revision))
                | Cleared(revision=int(revision))
                | Seen(revision=int(revision))
            ):
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
        who = f"round {self.load.seed}, client {self.number}"
        return f"{who} says its text {self.made} about the {topic}"

    def _request_id(self) -> str:
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))


def _method(request: Request) -> str:
    return request.what if isinstance(request, Read | Other) else type(request).__name__


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


def _opened(found: pb.GetContextResponse) -> Outcome:
    shown = [item for item in found.items if item.part == pb.CONTEXT_PART_WINDOW]
    sequences = [item.sequence for item in shown]
    if any(item.omitted for item in found.items):
        return Failed(f"left out: {[item for item in found.items if item.omitted]}")
    if sequences and sequences != list(range(sequences[0], sequences[0] + len(sequences))):
        return Failed(f"the context's sequences are {sequences}")
    texts = tuple(message.parts[0].text for message in found.messages)
    if len(texts) != len(sequences):
        return Failed(f"{len(texts)} messages with the sequences {sequences}")
    return Seen(
        found.session_revision,
        sequences[-1] if sequences else None,
        open=texts,
        open_from=sequences[0] if sequences else 0,
        system=found.system,
    )

"""Conversation memory as its users know it: sessions, messages, facts, recall."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from recollect_server.errors import (
    DeadlineExceeded,
    InvalidArgument,
    Reason,
    Unavailable,
    Unimplemented,
)
from recollect_server.ids import uuid7
from recollect_server.memory.model import (
    Appended,
    Fact,
    MemoryKind,
    Message,
    NewFact,
    NewMessage,
    NewSession,
    Remembered,
    Retention,
    Session,
    ToolCallPart,
)
from recollect_server.memory.ports import (
    FactStore,
    IndexSource,
    RecallFilter,
    RecallIndex,
    ScoreTerm,
    SessionStore,
    Window,
    WindowCache,
)
from recollect_server.memory.prompt import is_json_object
from recollect_server.memory.tokens import part_bytes
from recollect_server.scope import RequestKey, Scope

log = structlog.get_logger("recollect.memory")

DEFAULT_WINDOW_SIZE = 20
DEFAULT_WINDOW_TTL = timedelta(hours=1)
FIRST_POLL_SECONDS = 0.005
LONGEST_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class RecallHit:
    """A found item, whole.

    Attributes:
        item: a `Fact` or a `Message`.
        score: comparable within one recall only.
        terms: the addends of the score.
    """

    kind: MemoryKind
    item: Fact | Message
    score: float
    terms: tuple[ScoreTerm, ...]


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a recall found, best first.

    Attributes:
        words_only: the embedder was down, words alone made the rank.
    """

    hits: tuple[RecallHit, ...]
    indexed_revision: int
    words_only: bool


@dataclass(frozen=True, slots=True)
class RecentWindow:
    """The recent messages of a session.

    Attributes:
        cache_down: the window cache could not be reached; SQL answered.
    """

    session: Session
    messages: tuple[Message, ...]
    cache_down: bool


class Memory:
    """Conversation memory over its stores.

    Args:
        max_message_bytes: limit of one message's text, all parts together.
        work_added: set when there is text to embed.
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        *,
        sessions: SessionStore,
        facts: FactStore,
        windows: WindowCache,
        index: RecallIndex,
        source: IndexSource,
        max_message_bytes: int,
        work_added: asyncio.Event,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._facts = facts
        self._windows = windows
        self._index = index
        self._source = source
        self._max_message_bytes = max_message_bytes
        self._work_added = work_added
        self._clock = clock

    # Sessions

    async def create_session(
        self, scope: Scope, session: NewSession, request: RequestKey | None
    ) -> Session:
        """Create a session; an empty `session_id` is made here. See `SessionStore`."""
        if session.retention is Retention.EPHEMERAL:
            raise Unimplemented("retention EPHEMERAL")
        if session.idle_ttl:
            raise Unimplemented("idle_ttl")
        return await self._sessions.create_session(scope, session, request)

    async def get_session(self, scope: Scope, session_id: str) -> Session:
        """Return the session. See `SessionStore`."""
        return await self._sessions.get_session(scope, session_id)

    async def list_sessions(
        self, scope: Scope, *, limit: int, after: tuple[datetime, str] | None
    ) -> tuple[Session, ...]:
        """Return a page of sessions. See `SessionStore`."""
        return await self._sessions.list_sessions(scope, limit=limit, after=after)

    async def update_session(
        self,
        scope: Scope,
        session_id: str,
        changes: Mapping[str, object],
        expected_revision: int | None,
    ) -> Session:
        """Set the named attributes of a session. See `SessionStore`."""
        if changes.get("idle_ttl"):
            raise Unimplemented("idle_ttl")
        return await self._sessions.update_session(scope, session_id, changes, expected_revision)

    async def clear_session(self, scope: Scope, session_id: str) -> Session:
        """Start the session's context anew. See `SessionStore`."""
        return await self._sessions.clear_session(scope, session_id)

    async def delete_session(self, scope: Scope, session_id: str) -> None:
        """Delete a session and what was drawn from it alone. See `SessionStore`."""
        await self._sessions.delete_session(scope, session_id)
        try:
            await self._windows.delete(scope, session_id)
        except Unavailable as error:
            # Nothing reads it again, and it ends with its TTL.
            log.warning("window not dropped", reason=error.reason)

    # Messages

    def check_messages(self, messages: Sequence[NewMessage], field: str) -> None:
        """Refuse a message whose text is over the limit, or whose tool call is no JSON object.

        Args:
            field: path of the list in the request, or of the message if it is not a list.

        Raises:
            InvalidArgument: naming the message.
        """
        for position, message in enumerate(messages):
            path = f"{field}[{position}]" if field.endswith("s") else field
            size = sum(part_bytes(part) for part in message.parts)
            if size > self._max_message_bytes:
                raise InvalidArgument(
                    f"{path}.parts",
                    f"must be at most {self._max_message_bytes} bytes of text, is {size}",
                )
            for number, part in enumerate(message.parts):
                if isinstance(part, ToolCallPart) and not is_json_object(part.input_json):
                    raise InvalidArgument(
                        f"{path}.parts[{number}].tool_call.input_json", "must be a JSON object"
                    )

    async def append_messages(
        self,
        scope: Scope,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        request: RequestKey | None,
        expected_revision: int | None,
    ) -> Appended:
        """Append all messages or none; durable on return. See `SessionStore`.

        Raises:
            InvalidArgument: a message is over the limit.
        """
        self.check_messages(messages, "messages")
        appended = await self._sessions.append_messages(
            scope, session_id, messages, request=request, expected_revision=expected_revision
        )
        self._work_added.set()
        return appended

    async def list_messages(
        self,
        scope: Scope,
        session_id: str,
        *,
        limit: int,
        after: int | None = None,
        before: int | None = None,
        since: datetime | None = None,
        newest_first: bool = False,
    ) -> tuple[Message, ...]:
        """Return a page of messages. See `SessionStore`."""
        return await self._sessions.list_messages(
            scope,
            session_id,
            limit=limit,
            after=after,
            before=before,
            since=since,
            newest_first=newest_first,
        )

    async def recent_window(self, scope: Scope, session_id: str) -> RecentWindow:
        """Return the session and its recent messages, oldest first.

        The cached window counts only at the session's own revision, read from SQL in this call, so
        a stale one is never served.
        """
        session, (cached, cache_down) = await asyncio.gather(
            self._sessions.get_session(scope, session_id),
            self._cached_window(scope, session_id),
        )
        current = (session.create_time, session.revision)
        if cached is not None and (cached.session_time, cached.revision) == current:
            return RecentWindow(session, cached.messages, cache_down)
        newest = await self._sessions.list_messages(
            scope,
            session_id,
            limit=session.window_size,
            after=session.window_start - 1,
            before=session.last_sequence + 1,
            since=None,
            newest_first=True,
        )
        messages = tuple(reversed(newest))
        if not cache_down:
            cache_down = await self._cache_window(scope, session, messages)
        return RecentWindow(session, messages, cache_down)

    async def _cached_window(self, scope: Scope, session_id: str) -> tuple[Window | None, bool]:
        try:
            return await self._windows.get(scope, session_id), False
        except Unavailable:
            return None, True

    async def _cache_window(
        self, scope: Scope, session: Session, messages: tuple[Message, ...]
    ) -> bool:
        window = Window(session.create_time, session.revision, messages)
        try:
            await self._windows.put(
                scope, session.session_id, window, session.window_ttl.total_seconds()
            )
        except Unavailable:
            return True
        return False

    # Facts

    async def remember(
        self, scope: Scope, facts: Sequence[NewFact], request: RequestKey | None
    ) -> Remembered:
        """Store facts, all or none; durable on return. See `FactStore`."""
        for position, fact in enumerate(facts):
            if fact.valid_from and fact.valid_to and fact.valid_to <= fact.valid_from:
                raise InvalidArgument(
                    f"facts[{position}].valid_to", "must be later than valid_from"
                )
        remembered = await self._facts.remember(scope, facts, request)
        self._work_added.set()
        return remembered

    async def get_fact(self, scope: Scope, fact_id: str) -> Fact:
        """Return the current version of a fact. See `FactStore`."""
        return await self._facts.get_fact(scope, fact_id)

    async def list_facts(
        self, scope: Scope, *, limit: int, after: tuple[datetime, str] | None, valid_only: bool
    ) -> tuple[Fact, ...]:
        """Return a page of facts. See `FactStore`."""
        return await self._facts.list_facts(scope, limit=limit, after=after, valid_only=valid_only)

    async def update_fact(self, scope: Scope, fact_id: str, changes: Mapping[str, object]) -> Fact:
        """Write the next version of a fact. See `FactStore`."""
        fact = await self._facts.update_fact(scope, fact_id, changes)
        self._work_added.set()
        return fact

    async def forget_fact(self, scope: Scope, fact_id: str) -> None:
        """Delete a fact with its history. See `FactStore`."""
        await self._facts.forget_fact(scope, fact_id)

    async def fact_history(self, scope: Scope, fact_id: str) -> tuple[Fact, ...]:
        """Return every version of a fact, oldest first. See `FactStore`."""
        return await self._facts.fact_history(scope, fact_id)

    # Recall

    async def recall(
        self,
        scope: Scope,
        query: str,
        *,
        kinds: frozenset[MemoryKind],
        filter: RecallFilter,
        limit: int,
        min_revision: int = 0,
        deadline: float | None = None,
    ) -> Recalled:
        """Find items by meaning and words; of facts those that hold now.

        Args:
            min_revision: wait until writes up to this revision can be found by meaning.
            deadline: on the event loop's clock, for that wait.

        Raises:
            DeadlineExceeded: REVISION_NOT_INDEXED.
        """
        if min_revision:
            await self._wait_indexed(scope, min_revision, deadline)
        result = await self._index.search(scope, query, kinds=kinds, filter=filter, limit=limit)
        turns = {
            (m.session_id, m.sequence): m
            for m in await self._sessions.find_messages(
                scope,
                [(r.session_id, r.sequence) for r in result.ranked if r.kind is MemoryKind.TURN],
            )
        }
        now = self._clock()
        facts = {
            f.fact_id: f
            for f in await self._facts.get_facts(
                scope, [r.item_id for r in result.ranked if r.kind is MemoryKind.FACT]
            )
            if f.valid_to is None or f.valid_to > now
        }
        hits = []
        for ranked in result.ranked:
            item: Fact | Message | None = (
                facts.get(ranked.item_id)
                if ranked.kind is MemoryKind.FACT
                else turns.get((ranked.session_id, ranked.sequence))
            )
            if item is not None:
                hits.append(RecallHit(ranked.kind, item, ranked.score, ranked.terms))
        return Recalled(tuple(hits), result.indexed_revision, result.degraded)

    async def _wait_indexed(self, scope: Scope, revision: int, deadline: float | None) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_POLL_SECONDS
        while True:
            _, indexed = await self._source.user_revision(scope)
            if indexed >= revision:
                return
            if deadline is not None and loop.time() + pause >= deadline:
                raise DeadlineExceeded(
                    Reason.REVISION_NOT_INDEXED,
                    f"min_revision is {revision}, the index is at {indexed}",
                )
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL_SECONDS)


def new_session_id(session_id: str) -> str:
    """Return the chosen id, or a new one for an empty id."""
    return session_id or uuid7()

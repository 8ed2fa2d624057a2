"""Conversation memory as its users know it: sessions, messages, episodes, facts."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from recollect_server.errors import InvalidArgument
from recollect_server.ids import uuid7
from recollect_server.memory.fact_plan import Plan, first_version
from recollect_server.memory.model import (
    Appended,
    Episode,
    Fact,
    FactKind,
    Message,
    NewFact,
    NewMessage,
    NewSession,
    Remembered,
    Retention,
    Session,
    ToolCallPart,
)
from recollect_server.memory.ports import EpisodeStore, FactStore, SessionStore
from recollect_server.memory.prompt import is_json_object
from recollect_server.memory.reconciliation import Reconciler
from recollect_server.memory.tokens import part_bytes
from recollect_server.memory.watch import Notices
from recollect_server.memory.windows import Windows
from recollect_server.scope import RequestKey, Scope

DEFAULT_WINDOW_SIZE = 20
DEFAULT_WINDOW_TTL = timedelta(hours=1)
OLDER_PAGE = 100


class RecentWindow(Struct, frozen=True):
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
        work_added: set when there is background work.
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        *,
        sessions: SessionStore,
        facts: FactStore,
        episodes: EpisodeStore,
        windows: Windows,
        reconciler: Reconciler,
        notices: Notices,
        max_message_bytes: int,
        work_added: asyncio.Event,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._facts = facts
        self._episodes = episodes
        self._windows = windows
        self._reconciler = reconciler
        self._notices = notices
        self._max_message_bytes = max_message_bytes
        self._work_added = work_added
        self._clock = clock

    # Sessions

    async def create_session(
        self, scope: Scope, session: NewSession, request: RequestKey | None
    ) -> Session:
        """Create a session; an empty `session_id` is made here. See `SessionStore`."""
        if session.expire_time is not None and session.expire_time <= self._clock():
            raise InvalidArgument("expire_time", "must be in the future")
        created = await self._sessions.create_session(scope, session, request)
        self._notices.notify(scope)
        return created

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
        request: RequestKey | None,
    ) -> Session:
        """Set the named attributes of a session. See `SessionStore`."""
        expire_time = changes.get("expire_time")
        if isinstance(expire_time, datetime) and expire_time <= self._clock():
            raise InvalidArgument("session.expire_time", "must be in the future")
        updated = await self._sessions.update_session(
            scope, session_id, changes, expected_revision, request
        )
        self._notices.notify(scope)
        return updated

    async def clear_session(
        self, scope: Scope, session_id: str, request: RequestKey | None
    ) -> Session:
        """Start the session's context anew. See `SessionStore`."""
        cleared = await self._sessions.clear_session(scope, session_id, request)
        self.changed(scope)
        return cleared

    async def delete_session(
        self, scope: Scope, session_id: str, request: RequestKey | None
    ) -> None:
        """Delete a session and what was drawn from it alone. See `SessionStore`."""
        await self._sessions.delete_session(scope, session_id, request)
        self._notices.notify(scope)
        await self._windows.drop(scope, session_id)

    def changed(self, scope: Scope) -> None:
        """Wake those who watch the user, and those who do what the change made due."""
        self._work_added.set()
        self._notices.notify(scope)

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
        self._windows.appended(scope, session_id, appended)
        self.changed(scope)
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

        A cached window counts only at the session's own revision, read from SQL in this call, so a
        stale one is never served.
        """
        session = await self._sessions.get_session(scope, session_id)
        messages, cache_down = await self._windows.get(scope, session)
        if messages is None:
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
            if session.retention is Retention.DURABLE:
                self._windows.put(scope, session, messages)
        return RecentWindow(session, messages, cache_down)

    async def messages_since(
        self, scope: Scope, window: RecentWindow, through: int, token_budget: int
    ) -> tuple[Message, ...]:
        """Return the messages after a sequence, oldest first, also those before the window.

        Args:
            token_budget: estimated tokens; at least the newest messages that fit are returned.
        """
        messages = list(window.messages)
        if not messages or messages[0].sequence <= through + 1:
            return tuple(m for m in messages if m.sequence > through)
        used = sum(m.token_count for m in messages)
        while messages[0].sequence > through + 1 and used < token_budget:
            page = await self._sessions.list_messages(
                scope,
                window.session.session_id,
                limit=OLDER_PAGE,
                after=through,
                before=messages[0].sequence,
                since=None,
                newest_first=True,
            )
            if not page:
                break
            messages[:0] = reversed(page)
            used += sum(m.token_count for m in page)
        return tuple(messages)

    # Episodes

    async def get_episode(self, scope: Scope, episode_id: str) -> Episode:
        """Return an episode. See `EpisodeStore`."""
        return await self._episodes.get_episode(scope, episode_id)

    async def list_episodes(
        self,
        scope: Scope,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
        session_id: str,
    ) -> tuple[Episode, ...]:
        """Return a page of episodes. See `EpisodeStore`."""
        return await self._episodes.list_episodes(
            scope, limit=limit, after=after, session_id=session_id
        )

    # Facts

    async def remember(
        self,
        scope: Scope,
        facts: Sequence[NewFact],
        request: RequestKey | None,
        *,
        reconcile: bool = False,
    ) -> Remembered:
        """Store facts, all or none; durable on return. See `FactStore`.

        Args:
            reconcile: compare them with similar facts, by rules while the small model is down.
        """
        for position, fact in enumerate(facts):
            if fact.valid_from and fact.valid_to and fact.valid_to <= fact.valid_from:
                raise InvalidArgument(
                    f"facts[{position}].valid_to", "must be later than valid_from"
                )

        async def save(plan: Plan | None = None) -> Remembered:
            return await self._facts.remember(scope, facts, request, plan)

        if reconcile:
            now = self._clock()
            new = [first_version(fact, now) for fact in facts]
            remembered = await self._reconciler.apply(scope, new, save, may_go_by_rules=True)
        else:
            remembered = await save()
        self.changed(scope)
        return remembered

    async def get_fact(self, scope: Scope, fact_id: str) -> Fact:
        """Return the current version of a fact. See `FactStore`."""
        return await self._facts.get_fact(scope, fact_id)

    async def list_facts(
        self,
        scope: Scope,
        *,
        limit: int,
        after: tuple[datetime, str] | None,
        valid_only: bool,
        kinds: frozenset[FactKind] = frozenset(),
    ) -> tuple[Fact, ...]:
        """Return a page of facts. See `FactStore`."""
        return await self._facts.list_facts(
            scope, limit=limit, after=after, valid_only=valid_only, kinds=kinds
        )

    async def update_fact(
        self,
        scope: Scope,
        fact_id: str,
        changes: Mapping[str, object],
        expected_version: int | None,
        request: RequestKey | None,
    ) -> Fact:
        """Write the next version of a fact. See `FactStore`."""
        fact = await self._facts.update_fact(scope, fact_id, changes, expected_version, request)
        self.changed(scope)
        return fact

    async def forget_fact(self, scope: Scope, fact_id: str, request: RequestKey | None) -> None:
        """Delete a fact with its history. See `FactStore`."""
        await self._facts.forget_fact(scope, fact_id, request)
        self._notices.notify(scope)

    async def fact_history(self, scope: Scope, fact_id: str) -> tuple[Fact, ...]:
        """Return every version of a fact, oldest first. See `FactStore`."""
        return await self._facts.fact_history(scope, fact_id)


def new_session_id(session_id: str) -> str:
    """Return the chosen id, or a new one for an empty id."""
    return session_id or uuid7()

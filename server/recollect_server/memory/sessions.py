"""Sessions of both kinds behind one face: durable ones in SQL, ephemeral ones in Valkey."""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from recollect_server.errors import AlreadyExists, NotFound, Reason, Unavailable
from recollect_server.memory.model import (
    Appended,
    Message,
    NewMessage,
    NewSession,
    Retention,
    Session,
    Summary,
)
from recollect_server.memory.ports import SessionStore
from recollect_server.scope import RequestKey, Scope

T = TypeVar("T")

MOST_KNOWN = 10_000
"""Ephemeral sessions that a process remembers to be ephemeral."""


class EphemeralStore(Protocol):
    """Sessions that need not survive; methods are those of `SessionStore`, with its errors.

    Nothing of them is embedded, summarised, listed or watched.
    """

    async def create_session(
        self, scope: Scope, session: NewSession, request: RequestKey | None
    ) -> Session:
        """Create a session that ends when idle for `idle_ttl`, an hour if that is zero."""

    async def get_session(self, scope: Scope, session_id: str) -> Session:
        """Return the session."""

    async def update_session(
        self,
        scope: Scope,
        session_id: str,
        changes: Mapping[str, object],
        expected_revision: int | None,
        request: RequestKey | None = None,
    ) -> Session:
        """Set the named attributes of `Session`; one revision step, once as `append_messages`."""

    async def clear_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> Session:
        """Start the window after the newest message, once as `append_messages`."""

    async def delete_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> None:
        """Delete the session; a repeated request is the same for 24 hours."""

    async def append_messages(
        self,
        scope: Scope,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        request: RequestKey | None,
        expected_revision: int | None,
    ) -> Appended:
        """Append all messages or none; a repeated request is the same until the session ends."""

    async def list_messages(
        self,
        scope: Scope,
        session_id: str,
        *,
        limit: int,
        after: int | None,
        before: int | None,
        since: datetime | None,
        newest_first: bool,
    ) -> tuple[Message, ...]:
        """Return messages; only the newest ones are kept."""


class Sessions:
    """Implements `SessionStore` on both: SQL is asked first, Valkey for what SQL does not have."""

    def __init__(self, durable: SessionStore, ephemeral: EphemeralStore) -> None:
        self._durable = durable
        self._ephemeral = ephemeral
        # A write that finds no session costs SQL's group of writes a second run.
        self._known: OrderedDict[tuple[Scope, str], None] = OrderedDict()

    def forget_user(self, scope: Scope) -> int:
        """Forget which sessions of a user are ephemeral; return how many there were."""
        keys = [key for key in self._known if key[0] == scope]
        for key in keys:
            del self._known[key]
        return len(keys)

    async def create_session(
        self, scope: Scope, session: NewSession, request: RequestKey | None
    ) -> Session:
        """See `SessionStore`; an id is taken whichever kind of session has it."""
        if session.retention is Retention.EPHEMERAL:
            if await self._exists(self._durable.get_session(scope, session.session_id)):
                raise AlreadyExists(Reason.SESSION_EXISTS, "session", session.session_id)
            return await self._ephemeral.create_session(scope, session, request)
        try:
            if await self._exists(self._ephemeral.get_session(scope, session.session_id)):
                raise AlreadyExists(Reason.SESSION_EXISTS, "session", session.session_id)
        except Unavailable:
            # Without Valkey there is no ephemeral session; one of this id that comes back with it
            # is shadowed by the durable one.
            pass
        return await self._durable.create_session(scope, session, request)

    async def get_session(self, scope: Scope, session_id: str) -> Session:
        """See `SessionStore`."""
        return await self._first(
            (scope, session_id),
            lambda: self._durable.get_session(scope, session_id),
            lambda: self._ephemeral.get_session(scope, session_id),
        )

    async def list_sessions(
        self, scope: Scope, *, limit: int, after: tuple[datetime, str] | None
    ) -> tuple[Session, ...]:
        """See `SessionStore`; durable sessions only."""
        return await self._durable.list_sessions(scope, limit=limit, after=after)

    async def update_session(
        self,
        scope: Scope,
        session_id: str,
        changes: Mapping[str, object],
        expected_revision: int | None,
        request: RequestKey | None = None,
    ) -> Session:
        """See `SessionStore`."""
        what = session_id, changes, expected_revision, request
        return await self._first(
            (scope, session_id),
            lambda: self._durable.update_session(scope, *what),
            lambda: self._ephemeral.update_session(scope, *what),
        )

    async def clear_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> Session:
        """See `SessionStore`."""
        return await self._first(
            (scope, session_id),
            lambda: self._durable.clear_session(scope, session_id, request),
            lambda: self._ephemeral.clear_session(scope, session_id, request),
        )

    async def save_summary(
        self,
        scope: Scope,
        session_id: str,
        summary: Summary,
        replaces_through: int,
        session_time: datetime | None = None,
    ) -> Session | None:
        """See `SessionStore`; only durable sessions have summaries."""
        return await self._durable.save_summary(
            scope, session_id, summary, replaces_through, session_time
        )

    async def delete_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> None:
        """See `SessionStore`."""
        await self._first(
            (scope, session_id),
            lambda: self._durable.delete_session(scope, session_id, request),
            lambda: self._ephemeral.delete_session(scope, session_id, request),
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
        """See `SessionStore`."""
        return await self._first(
            (scope, session_id),
            lambda: self._durable.append_messages(
                scope, session_id, messages, request=request, expected_revision=expected_revision
            ),
            lambda: self._ephemeral.append_messages(
                scope, session_id, messages, request=request, expected_revision=expected_revision
            ),
        )

    async def list_messages(
        self,
        scope: Scope,
        session_id: str,
        *,
        limit: int,
        after: int | None,
        before: int | None,
        since: datetime | None,
        newest_first: bool,
    ) -> tuple[Message, ...]:
        """See `SessionStore`."""
        query: dict[str, Any] = {"limit": limit, "after": after, "before": before, "since": since}
        query["newest_first"] = newest_first
        return await self._first(
            (scope, session_id),
            lambda: self._durable.list_messages(scope, session_id, **query),
            lambda: self._ephemeral.list_messages(scope, session_id, **query),
        )

    async def find_messages(
        self, scope: Scope, keys: Sequence[tuple[str, int]]
    ) -> tuple[Message, ...]:
        """See `SessionStore`; only messages of durable sessions can be recalled."""
        return await self._durable.find_messages(scope, keys)

    async def _first(
        self,
        key: tuple[Scope, str],
        durable: Callable[[], Awaitable[T]],
        ephemeral: Callable[[], Awaitable[T]],
    ) -> T:
        """Ask SQL first, but Valkey first for a session that was there the last time."""
        if key in self._known:
            self._known.move_to_end(key)
            try:
                return await ephemeral()
            except NotFound:
                # Another call may have found the same meanwhile.
                self._known.pop(key, None)
                return await durable()
        try:
            return await durable()
        except NotFound as error:
            if error.reason is not Reason.SESSION_NOT_FOUND:
                raise
            found = await ephemeral()
            self._known[key] = None
            if len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
            return found

    async def _exists(self, found: Awaitable[Session]) -> bool:
        try:
            await found
        except NotFound:
            return False
        return True

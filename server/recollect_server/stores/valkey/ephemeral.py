"""Ephemeral sessions: in Valkey or Redis alone, gone at their end or when the server loses them.

A session is a hash of what changes and a list of its messages, in one slot; every change is one
script, so it happens whole or not at all, and twice is as good as once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from msgspec import structs

from recollect_server.errors import (
    AlreadyExists,
    FailedPrecondition,
    NotFound,
    Reason,
    RevisionMismatch,
)
from recollect_server.ids import uuid7
from recollect_server.memory.model import (
    Appended,
    Message,
    NewMessage,
    NewSession,
    Retention,
    Session,
)
from recollect_server.memory.tokens import estimate_message
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.codec import (
    decode_messages,
    encode_messages,
    from_microseconds,
    pack,
    to_microseconds,
    unpack,
)
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.ephemeral_scripts import APPEND, CHANGE, CREATE, DELETE, READ
from recollect_server.stores.valkey.keys import session_key

MOST_MESSAGES = 1000
"""An ephemeral session keeps its newest messages up to this number."""

DEFAULT_IDLE_TTL = timedelta(hours=1)
KEPT = timedelta(hours=24)
"""How long the request that deleted a session is known."""

_MICROSECOND = timedelta(microseconds=1)


def _milliseconds(time: datetime) -> int:
    return to_microseconds(time) // 1000


class ValkeySessions:
    """Implements `memory.sessions.EphemeralStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, client: Client, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._clock = clock

    async def create_session(
        self, scope: Scope, session: NewSession, request: RequestKey | None
    ) -> Session:
        """See `EphemeralStore`."""
        now = from_microseconds(_milliseconds(self._clock()) * 1000)
        if not session.idle_ttl:
            session = replace(session, idle_ttl=DEFAULT_IDLE_TTL)
        request = request or _unnamed("CreateSession")
        created = await self._client.run(
            CREATE,
            self._keys(scope, session.session_id),
            [
                _pack_fixed(session, now),
                _milliseconds(now),
                max(1, session.idle_ttl // timedelta(milliseconds=1)),
                _milliseconds(session.expire_time) if session.expire_time else 0,
                f"{request.request_id}:{request.digest.hex()}".encode(),
            ],
        )
        if created < 0:
            raise _request_reused()
        if not created:
            raise AlreadyExists(Reason.SESSION_EXISTS, "session", session.session_id)
        return await self.get_session(scope, session.session_id)

    async def get_session(self, scope: Scope, session_id: str) -> Session:
        """See `EphemeralStore`."""
        session, _ = await self._read(scope, session_id, 1, 0)
        return session

    async def update_session(
        self,
        scope: Scope,
        session_id: str,
        changes: Mapping[str, object],
        expected_revision: int | None,
        request: RequestKey | None = None,
    ) -> Session:
        """See `EphemeralStore`."""

        def fields(session: Session) -> list[bytes | int]:
            named: dict[str, Any] = dict(changes)
            changed = structs.replace(session, **named)
            idle_ttl = changed.idle_ttl or DEFAULT_IDLE_TTL
            expiry = _milliseconds(changed.expire_time) if changed.expire_time else 0
            fixed = _pack_fixed(structs.replace(changed, idle_ttl=idle_ttl), session.create_time)
            return [b"f", fixed, b"i", idle_ttl // timedelta(milliseconds=1), b"e", expiry]

        request = request or _unnamed("UpdateSession")
        return await self._change(scope, session_id, fields, expected_revision, request)

    async def clear_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> Session:
        """See `EphemeralStore`."""
        request = request or _unnamed("ClearSession")
        return await self._change(
            scope, session_id, lambda session: [b"w", session.last_sequence + 1], None, request
        )

    async def delete_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> None:
        """See `EphemeralStore`."""
        request = request or _unnamed("DeleteSession")
        state = await self._client.run(
            DELETE,
            self._keys(scope, session_id, request),
            [request.digest.hex().encode(), int(KEPT.total_seconds())],
        )
        if state == -2:
            raise _not_found(session_id)
        if state == -3:
            raise _request_reused()

    async def append_messages(
        self,
        scope: Scope,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        request: RequestKey | None,
        expected_revision: int | None,
    ) -> Appended:
        """See `EphemeralStore`."""
        now = self._clock()
        request = request or _unnamed("AppendMessages")
        stored = [_stored(session_id, message, now) for message in messages]
        state, revision, last, fixed = await self._client.run(
            APPEND,
            self._keys(scope, session_id, request),
            [
                _milliseconds(now),
                -1 if expected_revision is None else expected_revision,
                request.request_id.encode(),
                request.digest.hex().encode(),
                MOST_MESSAGES,
                *(encode_messages([message]) for message in stored),
            ],
        )
        if state == -1:
            raise RevisionMismatch(expected_revision or 0, revision)
        if state == -2:
            raise _not_found(session_id)
        if state == -3:
            raise _request_reused()
        created = from_microseconds(unpack(fixed)[-1])
        first = last - len(messages) + 1
        if state == 2:
            found = await self.list_messages(
                scope,
                session_id,
                limit=len(messages),
                after=first - 1,
                before=last + 1,
                since=None,
                newest_first=False,
            )
            return Appended(found, revision, 0, created)
        numbered = tuple(
            structs.replace(message, sequence=first + position)
            for position, message in enumerate(stored)
        )
        return Appended(numbered, revision, 0, created)

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
        """See `EphemeralStore`."""
        _, messages = await self._read(scope, session_id, 0, -1)
        found = [
            message
            for message in messages
            if (after is None or message.sequence > after)
            and (before is None or message.sequence < before)
            and (since is None or message.time >= since)
        ]
        if newest_first:
            found.reverse()
        return tuple(found[:limit])

    async def _change(
        self,
        scope: Scope,
        session_id: str,
        fields: Callable[[Session], list[bytes | int]],
        expected_revision: int | None,
        request: RequestKey,
    ) -> Session:
        """Set fields computed from the session, again if another change came first."""
        digest = request.digest.hex().encode()
        while True:
            session = await self.get_session(scope, session_id)
            revision = session.revision if expected_revision is None else expected_revision
            state = await self._client.run(
                CHANGE,
                self._keys(scope, session_id, request),
                [_milliseconds(self._clock()), revision, digest, *fields(session)],
            )
            if state == -2:
                raise _not_found(session_id)
            if state == -3:
                raise _request_reused()
            if state == 1:
                return await self.get_session(scope, session_id)
            if expected_revision is not None:
                current = (await self.get_session(scope, session_id)).revision
                raise RevisionMismatch(expected_revision, current)

    async def _read(
        self, scope: Scope, session_id: str, first: int, last: int
    ) -> tuple[Session, tuple[Message, ...]]:
        """Return the session, and of the messages kept those from one position to another."""
        found = await self._client.run(READ, self._keys(scope, session_id), [first, last])
        if not found:
            raise _not_found(session_id)
        fields, kept, values = found
        session = _to_session(session_id, fields, kept)
        start = session.last_sequence - kept + 1 + first
        messages = (decode_messages(value)[0] for value in values)
        return session, tuple(structs.replace(m, sequence=n) for n, m in enumerate(messages, start))

    def _keys(self, scope: Scope, session_id: str, request: RequestKey | None = None) -> list[str]:
        parts = ["session", "messages"]
        if request is not None:
            parts.append(f"request:{request.method}:{request.request_id}")
        return [session_key(scope, session_id, part) for part in parts]


def _unnamed(method: str) -> RequestKey:
    """Return the key of a call without a request id: a command of its may be sent twice."""
    return RequestKey(method, uuid7(), b"\x00")


def _not_found(session_id: str) -> NotFound:
    return NotFound(Reason.SESSION_NOT_FOUND, "session", session_id)


def _request_reused() -> FailedPrecondition:
    return FailedPrecondition(Reason.REQUEST_ID_REUSED, "request_id: it belongs to another request")


def _pack_fixed(session: NewSession | Session, create_time: datetime) -> bytes:
    return pack(
        [
            session.title,
            dict(session.metadata),
            session.window_size,
            session.window_ttl // _MICROSECOND,
            session.idle_ttl // _MICROSECOND,
            to_microseconds(session.expire_time) if session.expire_time else None,
            to_microseconds(create_time),
        ]
    )


def _to_session(session_id: str, fields: Sequence[bytes], kept: int) -> Session:
    title, metadata, window_size, window_ttl, idle_ttl, expire_time, created = unpack(fields[0])
    revision, last, window_start, updated = (int(float(value)) for value in fields[1:5])
    return Session(
        session_id=session_id,
        title=title,
        retention=Retention.EPHEMERAL,
        metadata=metadata,
        window_size=window_size,
        window_ttl=timedelta(microseconds=window_ttl),
        idle_ttl=timedelta(microseconds=idle_ttl),
        expire_time=from_microseconds(expire_time) if expire_time is not None else None,
        create_time=from_microseconds(created),
        update_time=from_microseconds(updated),
        revision=revision,
        last_sequence=last,
        message_count=kept,
        window_start=window_start,
        summary_through=window_start - 1,
    )


def _stored(session_id: str, message: NewMessage, now: datetime) -> Message:
    return Message(
        message_id=uuid7(),
        session_id=session_id,
        sequence=0,
        role=message.role,
        parts=message.parts,
        author_name=message.author_name,
        time=message.time or now,
        create_time=now,
        metadata=message.metadata,
        external_id=message.external_id,
        token_count=estimate_message(message.parts),
    )

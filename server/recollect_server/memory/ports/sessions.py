"""The store of sessions and their messages."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from recollect_server.memory.model import (
    Appended,
    Message,
    NewMessage,
    NewSession,
    Session,
    Summary,
)
from recollect_server.scope import RequestKey, Scope


class SessionStore(Protocol):
    """Sessions and their messages: the truth, durable when a call returns.

    Every method raises `Unavailable` when the store is down, and `NotFound` with
    SESSION_NOT_FOUND where it names a session that does not exist in the scope.
    """

    async def create_session(
        self, scope: Scope, session: NewSession, request: RequestKey | None
    ) -> Session:
        """Create a session.

        Raises:
            AlreadyExists: the id is taken in this scope.
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def get_session(self, scope: Scope, session_id: str) -> Session:
        """Return the session."""

    async def list_sessions(
        self, scope: Scope, *, limit: int, after: tuple[datetime, str] | None
    ) -> tuple[Session, ...]:
        """Return up to `limit` sessions, most recently updated first, after (update_time, id)."""

    async def update_session(
        self,
        scope: Scope,
        session_id: str,
        changes: Mapping[str, object],
        expected_revision: int | None,
        request: RequestKey | None = None,
    ) -> Session:
        """Set the named attributes of `Session`; one revision step.

        Raises:
            RevisionMismatch: the session is not at `expected_revision`.
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def clear_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> Session:
        """Start the window after the newest message and drop the summary; keep the transcript.

        Raises:
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def save_summary(
        self,
        scope: Scope,
        session_id: str,
        summary: Summary,
        replaces_through: int,
        session_time: datetime | None = None,
    ) -> Session | None:
        """Replace the summary as one revision step; return the session.

        Args:
            session_time: create_time of the session that was summarised: one that was made again
                under its id is another. None means any.
            replaces_through: `summary_through` of the session that the summary continues; if the
                session is no longer there, nothing changes and the result is None.
        """

    async def delete_session(
        self, scope: Scope, session_id: str, request: RequestKey | None = None
    ) -> None:
        """Delete the session and what was drawn from it alone.

        Raises:
            FailedPrecondition: REQUEST_ID_REUSED.
        """

    async def append_messages(
        self,
        scope: Scope,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        request: RequestKey | None,
        expected_revision: int | None,
    ) -> Appended:
        """Append all messages or none, in order, as one revision step, with the embedding job.

        Raises:
            RevisionMismatch: the session is not at `expected_revision`.
            FailedPrecondition: REQUEST_ID_REUSED.
        """

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
        """Return up to `limit` messages with after < sequence < before and time >= since."""

    async def find_messages(
        self, scope: Scope, keys: Sequence[tuple[str, int]]
    ) -> tuple[Message, ...]:
        """Return the messages of these (session_id, sequence) that exist, in the keys' order."""

"""Watching a user's memory: every change in order, without gap or repeat."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from recollect_server.errors import Reason, Unavailable
from recollect_server.memory.model import Episode, Fact, Message, Session
from recollect_server.scope import Scope

BATCH = 200
"""Changes read at once, and the most that wait in memory for a slow reader."""

POLL_SECONDS = 2.0
"""How often the store is asked without a notice: notices may get lost, changes do not."""

KEPT_DAYS = 7


class ChangeType(IntEnum):
    """What happened; values equal `recollect.v1.ChangeType`."""

    CREATED = 1
    UPDATED = 2
    DELETED = 3


class SubjectKind(IntEnum):
    """What it happened to."""

    SESSION = 1
    MESSAGE = 2
    FACT = 3
    EPISODE = 4


@dataclass(frozen=True, slots=True)
class Deleted:
    """A thing that is gone: only its ids are known."""

    kind: SubjectKind
    session_id: str
    item_id: str


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a change is in the order of a user's changes.

    Attributes:
        revision: the user's, made by the write that the change belongs to.
        number: among the changes of that write.
    """

    revision: int
    number: int


@dataclass(frozen=True, slots=True)
class Change:
    """One change; `subject` is as it was after it."""

    position: Position
    type: ChangeType
    time: datetime
    subject: Session | Message | Fact | Episode | Deleted


class ChangeStore(Protocol):
    """The changes of a user, kept for `KEPT_DAYS` at least."""

    async def latest_position(self, scope: Scope) -> Position:
        """Return the position of the newest change, (0, 0) for a user without data."""

    async def changes_after(
        self, scope: Scope, position: Position, *, session_id: str, limit: int
    ) -> tuple[tuple[Change, ...], Position]:
        """Return the next changes and the position up to which there are no others.

        Args:
            session_id: only changes of this session; "" for all.
            limit: about how many to return at most.

        Raises:
            OutOfRange: RESUME_TOKEN_EXPIRED.
        """


class Notices(Protocol):
    """Wakes watchers of this and other processes; may lose a notice."""

    def notify(self, scope: Scope) -> None:
        """Say that a user's memory changed; it does not wait."""

    def subscribe(self, scope: Scope) -> "Subscription":
        """Start to listen for a user."""


class Subscription(Protocol):
    """A watcher's ear."""

    async def wait(self, seconds: float) -> None:
        """Return when the user's memory changed since the last call, or after `seconds`."""

    def wake(self) -> None:
        """Make `wait` return."""

    def close(self) -> None:
        """Stop to listen."""


class Watch:
    """Streams of changes."""

    def __init__(self, changes: ChangeStore, notices: Notices) -> None:
        self._changes = changes
        self._notices = notices
        self._open: set[Subscription] = set()
        self._ended = False

    async def now(self, scope: Scope) -> Position:
        """Return the position that every change from now on comes after."""
        return await self._changes.latest_position(scope)

    async def stream(
        self, scope: Scope, session_id: str, position: Position
    ) -> AsyncGenerator[Change]:
        """Yield the changes after a position as they happen, until closed.

        A reader that is slow is not written ahead for: what it has not read stays in the store.

        Args:
            session_id: only changes of this session; "" for all of the user's memory.

        Raises:
            OutOfRange: RESUME_TOKEN_EXPIRED, the position is before what is kept.
            Unavailable: the store is down, or the server ends; resume elsewhere or later.
        """
        subscription = self._notices.subscribe(scope)
        self._open.add(subscription)
        try:
            while not self._ended:
                before = position
                found, position = await self._changes.changes_after(
                    scope, position, session_id=session_id, limit=BATCH
                )
                for change in found:
                    yield change
                if position == before:
                    await subscription.wait(POLL_SECONDS)
            raise Unavailable(Reason.SHUTTING_DOWN, "the server ends; resume the watch", 0.1)
        finally:
            self._open.discard(subscription)
            subscription.close()

    def end(self) -> None:
        """End all streams, so that their readers go on with another server."""
        self._ended = True
        for subscription in self._open:
            subscription.wake()

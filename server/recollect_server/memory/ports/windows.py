"""The cache of recent windows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from recollect_server.memory.model import Message
from recollect_server.scope import Scope


@dataclass(frozen=True, slots=True)
class Window:
    """The recent messages of a session as of a revision.

    Attributes:
        session_time: when the session was created; it tells the session from a deleted one of the
            same id, whose revisions were the same numbers.
    """

    session_time: datetime
    revision: int
    messages: tuple[Message, ...]


class WindowCache(Protocol):
    """Recent windows in Valkey or Redis: derived, may be lost at any time.

    Every method raises `Unavailable` when the server cannot be reached in time.
    """

    async def get(self, scope: Scope, session_id: str) -> Window | None:
        """Return the cached window, or None."""

    async def put(self, scope: Scope, session_id: str, window: Window, ttl_seconds: float) -> None:
        """Cache a window unless a newer one, by session_time and revision, is cached already."""

    async def delete(self, scope: Scope, session_id: str) -> None:
        """Drop the window."""

"""Recent windows of sessions: in this process first, then in Valkey, always checked against SQL.

A window counts only for the session's revision, which the caller has just read from SQL, so it does
not matter who changed the session meanwhile, nor whether a cached window was lost.
"""

import asyncio
from collections import OrderedDict

import structlog

from recollect_server.errors import Unavailable
from recollect_server.memory.model import Appended, Message, Session
from recollect_server.memory.ports import Window, WindowCache
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.windows")

WRITE_BEHIND_SECONDS = 0.25
"""Windows that change again within this time are written to Valkey once."""

ENTRY_BYTES = 800
MESSAGE_BYTES = 600
"""About what a window and a message take in memory, beside the messages' text."""

Key = tuple[Scope, str]


class _Entry:
    """A window in this process."""

    __slots__ = ("session_ttl", "size", "window", "window_size")

    def __init__(self, window: Window, window_size: int, session_ttl: float, size: int) -> None:
        self.window = window
        self.window_size = window_size
        self.session_ttl = session_ttl
        self.size = size


class Windows:
    """The windows that are known; `run` writes them to Valkey.

    Args:
        cache: Valkey's, shared by all processes.
        budget: bytes for windows in this process, estimated.
    """

    def __init__(self, cache: WindowCache, *, budget: int) -> None:
        self._cache = cache
        self._budget = budget
        self._used = 0
        self._here: OrderedDict[Key, _Entry] = OrderedDict()
        self._dirty: dict[Key, None] = {}
        self._changed = asyncio.Event()

    @property
    def nbytes(self) -> int:
        """Bytes of the windows in this process, estimated."""
        return self._used

    def __len__(self) -> int:
        """Windows in this process."""
        return len(self._here)

    async def get(self, scope: Scope, session: Session) -> tuple[tuple[Message, ...] | None, bool]:
        """Return the session's recent messages if a window of its revision is known.

        Returns:
            The messages, or None, and whether Valkey could not be reached.
        """
        key = (scope, session.session_id)
        entry = self._here.get(key)
        if entry is not None and _is_of(entry.window, session):
            self._here.move_to_end(key)
            return entry.window.messages, False
        try:
            window = await self._cache.get(scope, session.session_id)
        except Unavailable:
            return None, True
        if window is None or not _is_of(window, session):
            return None, False
        self._keep(key, _entry(window, session))
        return window.messages, False

    def put(self, scope: Scope, session: Session, messages: tuple[Message, ...]) -> None:
        """Take in a window that was read from SQL."""
        window = Window(session.create_time, session.revision, messages)
        key = (scope, session.session_id)
        self._keep(key, _entry(window, session))
        self._mark(key)

    def appended(self, scope: Scope, session_id: str, appended: Appended) -> None:
        """Take in new messages, if the window before them is here."""
        key = (scope, session_id)
        entry = self._here.get(key)
        if entry is None or entry.window.session_time != appended.session_time:
            return
        if entry.window.revision != appended.session_revision - 1:
            return
        messages = entry.window.messages + appended.messages
        excess = max(0, len(messages) - entry.window_size)
        size = entry.size + _size(appended.messages) - _size(messages[:excess])
        window = Window(entry.window.session_time, appended.session_revision, messages[excess:])
        self._keep(key, _Entry(window, entry.window_size, entry.session_ttl, size))
        self._mark(key)

    async def drop(self, scope: Scope, session_id: str) -> None:
        """Forget the window of a session that is deleted."""
        key = (scope, session_id)
        self._forget(key)
        self._dirty.pop(key, None)
        try:
            await self._cache.delete(scope, session_id)
        except Unavailable as error:
            # Nothing reads it again, and it ends with its TTL.
            log.warning("window not dropped", reason=error.reason)

    def forget_user(self, scope: Scope) -> int:
        """Forget the windows of a user in this process; return how many there were."""
        keys = [key for key in self._here if key[0] == scope]
        for key in keys:
            self._forget(key)
            self._dirty.pop(key, None)
        return len(keys)

    async def run(self) -> None:
        """Write changed windows to Valkey until cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(WRITE_BEHIND_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what has changed; what cannot be written is left to be read from SQL."""
        self._changed.clear()
        dirty, self._dirty = self._dirty, {}
        for key in dirty:
            entry = self._here.get(key)
            if entry is None:
                continue
            scope, session_id = key
            try:
                await self._cache.put(scope, session_id, entry.window, entry.session_ttl)
            except Unavailable:
                return

    def _mark(self, key: Key) -> None:
        self._dirty[key] = None
        self._changed.set()

    def _keep(self, key: Key, entry: _Entry) -> None:
        self._forget(key)
        self._here[key] = entry
        self._used += entry.size
        while self._used > self._budget and len(self._here) > 1:
            _, oldest = self._here.popitem(last=False)
            self._used -= oldest.size

    def _forget(self, key: Key) -> None:
        entry = self._here.pop(key, None)
        if entry is not None:
            self._used -= entry.size


def _size(messages: tuple[Message, ...]) -> int:
    return sum(MESSAGE_BYTES + 4 * message.token_count for message in messages)


def _entry(window: Window, session: Session) -> _Entry:
    ttl = session.window_ttl.total_seconds()
    return _Entry(window, session.window_size, ttl, ENTRY_BYTES + _size(window.messages))


def _is_of(window: Window, session: Session) -> bool:
    return window.revision == session.revision and window.session_time == session.create_time

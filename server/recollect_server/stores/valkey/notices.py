"""Notices of changes: wake watchers in this process at once, those of others by PUBLISH.

One channel carries all of a server's notices, a few digests of users at a time, so that a write
costs no command of its own and a process needs one subscription however many it watches for. A lost
notice costs a watcher the time until it asks the store by itself.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from recollect_server.scope import Scope
from recollect_server.stores.valkey.connect import open_messenger
from recollect_server.stores.valkey.keys import NOTICE_CHANNEL, user_mark

COLLECT_SECONDS = 0.05
"""Users that change within this time share a message."""

MARK_BYTES = 16


class _Ear:
    """Implements `memory.watch.Subscription`."""

    def __init__(self, close: "Callable[[_Ear], None]") -> None:
        self.heard = asyncio.Event()
        self._close = close

    async def wait(self, seconds: float) -> None:
        """See `Subscription`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self.heard.wait()
        self.heard.clear()

    def wake(self) -> None:
        """See `Subscription`."""
        self.heard.set()

    def close(self) -> None:
        """See `Subscription`."""
        self._close(self)


class ValkeyNotices:
    """Implements `memory.watch.Notices`; `run` must be running for other processes to hear.

    Args:
        url: the server that carries the notices, as in `connect`.
    """

    def __init__(self, url: str) -> None:
        self._messenger = open_messenger(url)
        self._ears: dict[bytes, set[_Ear]] = {}
        self._unsent: set[bytes] = set()
        self._changed = asyncio.Event()

    def notify(self, scope: Scope) -> None:
        """See `Notices`."""
        mark = user_mark(scope)
        self._wake(mark)
        self._unsent.add(mark)
        self._changed.set()

    def subscribe(self, scope: Scope) -> _Ear:
        """See `Notices`."""
        mark = user_mark(scope)

        def close(ear: _Ear) -> None:
            ears = self._ears.get(mark, set())
            ears.discard(ear)
            if not ears:
                self._ears.pop(mark, None)

        ear = _Ear(close)
        self._ears.setdefault(mark, set()).add(ear)
        return ear

    async def run(self) -> None:
        """Send and hear until cancelled; an outage is waited out."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send())
                group.create_task(self._messenger.hear(NOTICE_CHANNEL, self._take))
        finally:
            await self._messenger.close()

    async def _send(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(COLLECT_SECONDS)
            self._changed.clear()
            unsent, self._unsent = self._unsent, set()
            # Where it is lost, watchers ask the store by themselves.
            await self._messenger.publish(NOTICE_CHANNEL, b"".join(unsent))

    def _take(self, data: bytes) -> None:
        for start in range(0, len(data), MARK_BYTES):
            self._wake(data[start : start + MARK_BYTES])

    def _wake(self, mark: bytes) -> None:
        for ear in self._ears.get(mark, ()):
            ear.wake()

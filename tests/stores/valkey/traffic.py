"""Reads and writes of windows and plain values that notice whatever goes wrong."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TypeVar

from recollect_server.errors import Unavailable
from recollect_server.memory.ports import Window
from recollect_server.scope import Scope
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.keys import entry_key, window_key
from recollect_server.stores.valkey.window import ValkeyWindowCache

T = TypeVar("T")
START = datetime(2026, 3, 1, tzinfo=UTC)


class Traffic:
    """Workers that each own a key, write it, read it back and compare.

    Attributes:
        keys: one of each worker.
        failures: key and seconds of each call that was `Unavailable`.
        longest: seconds of the longest call.
    """

    def __init__(self, client: Client, *, sessions: int, entries: int) -> None:
        self._scope = Scope(f"tenant {random.getrandbits(64):x}", "u")
        self._windows = ValkeyWindowCache(client)
        self._client = client
        self._sessions = {window_key(self._scope, f"s{n}"): f"s{n}" for n in range(sessions)}
        self.keys = [*self._sessions]
        self.keys += [entry_key(self._scope.tenant, f"e{n}") for n in range(entries)]
        self.failures: list[tuple[str, float]] = []
        self.longest = 0.0
        self._done = dict.fromkeys(self.keys, 0)
        self._stopped = False

    async def run(self) -> None:
        """Work until `stop`; raise what is wrong beyond `Unavailable`."""
        async with asyncio.TaskGroup() as group:
            for key in self.keys:
                group.create_task(self._work(key))

    def stop(self) -> None:
        self._stopped = True

    async def rounds(self, count: int, without: set[str] | frozenset[str] = frozenset()) -> None:
        """Return when every worker has succeeded so many times more; `without` some of them."""
        goal = {key: self._done[key] + count for key in self.keys if key not in without}
        await self._until(lambda: all(self._done[key] >= goal[key] for key in goal))

    async def operations(self, count: int) -> None:
        """Return when so many successes more were had, whoever had them."""
        goal = sum(self._done.values()) + count
        await self._until(lambda: sum(self._done.values()) >= goal)

    async def all_work(self) -> None:
        """Return when every worker has succeeded since it failed last, and once more."""
        while True:
            failed = len(self.failures)
            await self.rounds(2)
            if len(self.failures) == failed:
                return

    async def check(self, client: Client) -> None:
        """Assert that every key has what was written last, as another client sees it."""
        windows = ValkeyWindowCache(client)
        for key in self.keys:
            if session := self._sessions.get(key):
                window = await windows.get(self._scope, session)
                assert window == Window(START, self._done[key], ())
            else:
                assert await client.get(key) == b"%d" % self._done[key]

    async def _until(self, condition: Callable[[], bool], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.005)

    async def _work(self, key: str) -> None:
        step = self._step_window if key in self._sessions else self._step_value
        while not self._stopped:
            began = time.monotonic()
            try:
                await step(key, self._done[key] + 1)
            except Unavailable:
                self.failures.append((key, time.monotonic() - began))
                await asyncio.sleep(0.01)
            else:
                self._done[key] += 1

    async def _timed(self, call: Awaitable[T]) -> T:
        began = time.monotonic()
        try:
            return await call
        finally:
            self.longest = max(self.longest, time.monotonic() - began)

    async def _step_window(self, key: str, revision: int) -> None:
        """Put a window and two older ones at the same time: the newest must stay."""
        session = self._sessions[key]
        puts = [
            self._windows.put(self._scope, session, Window(START, max(1, number), ()), 600.0)
            for number in random.sample(range(revision - 2, revision + 1), 3)
        ]
        results = await asyncio.gather(*map(self._timed, puts), return_exceptions=True)
        for result in results:
            if result is not None:
                raise result
        assert await self._timed(self._windows.get(self._scope, session)) == Window(
            START, revision, ()
        )

    async def _step_value(self, key: str, number: int) -> None:
        value = b"%d" % number
        await self._timed(self._client.set(key, value, px=3_600_000))
        assert await self._timed(self._client.get(key)) == value

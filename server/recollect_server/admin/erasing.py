"""Erasing users: everywhere, until every store was searched and nothing was found.

The order is what makes it final. First the user's row is renamed in SQL: from then on no call, no
job and no turn finds the user, and what they were about to write is refused. Every process learns
of it within a second, ends calls and turns under way, and forgets what it has in memory. Only after
all of them had time for that is each store emptied and searched, again and again if need be. The
work is noted in SQL step by step, so that any server goes on where another one died.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import structlog

from recollect_server.admin.erasure import (
    INDEX,
    ErasedStore,
    Erasure,
    ErasureStore,
    UserData,
    UserMemory,
)
from recollect_server.admin.gate import Gate
from recollect_server.errors import RecollectError, Unavailable
from recollect_server.memory.audit import Caller
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.erasing")

POLL_SECONDS = 1.0
"""How often a process asks who is being erased."""

SETTLE_SECONDS = 3.0
"""After this time every process has asked, ended its calls about the user and written what it was
about to write to Valkey."""

LEASE_SECONDS = 15.0
RENEW_SECONDS = 5.0
STEP_SECONDS = 60.0
"""What one store may take at a time."""

PAUSES_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Between attempts; the last one again and again."""

ASK_SECONDS = 0.1
PATIENCE_SECONDS = 60.0
"""How long a call without a deadline waits for the end."""

MARGIN_SECONDS = 1.0
"""A call answers so long before its deadline, with what is done so far."""


class Erasing:
    """See the module; `run` must be running.

    Args:
        places: returns the stores outside SQL.
        memories: what this process remembers.
    """

    def __init__(
        self,
        store: ErasureStore,
        places: Callable[[], Awaitable[Sequence[UserData]]],
        memories: Sequence[UserMemory],
        gate: Gate,
    ) -> None:
        self._store = store
        self._places = places
        self._memories = memories
        self._gate = gate
        self._driven: dict[str, asyncio.Task[None]] = {}
        self._done: set[str] = set()

    async def erase(
        self, scope: Scope, request_id: str, caller: Caller, deadline: float | None
    ) -> Erasure:
        """Erase a user and return the receipt; of an erasure that takes longer, what it is so far.

        It goes on by itself; call again to see it complete.

        Args:
            deadline: on the event loop's clock.

        Raises:
            Unavailable: SQL is down; nothing is erased.
        """
        loop = asyncio.get_running_loop()
        patience = loop.time() + PATIENCE_SECONDS
        until = patience if deadline is None else min(patience, deadline - MARGIN_SECONDS)
        erasure = await self._store.begin(scope, request_id, caller)
        if not erasure.complete:
            self._gate.close_also_for(scope)
            if here := self._forget(scope):
                await self._store.note(erasure.erasure_id, INDEX, ErasedStore(here))
        while not erasure.complete and loop.time() < until:
            self._take_on(erasure)
            await asyncio.sleep(ASK_SECONDS)
            erasure = await self._store.get(erasure.erasure_id)
        if erasure.complete:
            self._let_in(erasure.erasure_id, scope)
        return erasure

    async def run(self) -> None:
        """Follow all erasures until cancelled, and take on those that nobody works on."""
        try:
            while True:
                try:
                    await self._look()
                except Unavailable as error:
                    log.warning("store unavailable, erasures wait", reason=error.reason)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            for task in self._driven.values():
                task.cancel()

    async def _look(self) -> None:
        erasures = await self._store.open_erasures()
        self._done &= {erasure.erasure_id for erasure in erasures}
        # One may have become complete here since they were read.
        erasures = tuple(each for each in erasures if each.erasure_id not in self._done)
        scopes = {erasure.scope for erasure in erasures if erasure.scope is not None}
        self._gate.close_for(scopes)
        for scope in scopes:
            self._forget(scope)
        for erasure in erasures:
            self._take_on(erasure)

    def _take_on(self, erasure: Erasure) -> None:
        """Work on an erasure, unless this process does."""
        key = erasure.erasure_id
        if key not in self._driven:
            task = asyncio.create_task(self._drive(key), name=f"erasure-{key}")
            self._driven[key] = task
            task.add_done_callback(lambda _: self._driven.pop(key, None))

    def _let_in(self, erasure_id: str, scope: Scope) -> None:
        """Let calls about a user in again; other processes do so within a second."""
        self._done.add(erasure_id)
        self._gate.open_for(scope)

    def _forget(self, scope: Scope) -> int:
        return sum(memory.forget_user(scope) for memory in self._memories)

    async def _drive(self, erasure_id: str) -> None:
        """Work on an erasure to its end, if no other process does."""
        attempt = 0
        try:
            if not await self._store.lease(erasure_id, LEASE_SECONDS):
                # Whoever has it may have died; this is asked again.
                await asyncio.sleep(POLL_SECONDS)
                return
            renewing = asyncio.create_task(self._renew(erasure_id))
            try:
                # By this process's own clock: others' may differ.
                await asyncio.sleep(SETTLE_SECONDS)
                while not await self._attempt_or_wait(erasure_id):
                    await asyncio.sleep(PAUSES_SECONDS[min(attempt, len(PAUSES_SECONDS) - 1)])
                    attempt += 1
            finally:
                renewing.cancel()
        except Unavailable as error:
            log.warning("store unavailable, an erasure waits", reason=error.reason)
            await asyncio.sleep(POLL_SECONDS)
        except Exception:
            log.exception("erasure failed", erasure_id=erasure_id)
            await asyncio.sleep(PAUSES_SECONDS[-1])

    async def _attempt_or_wait(self, erasure_id: str) -> bool:
        """Return False too if something does not answer now; the lease is kept for next time."""
        try:
            return await self._attempt(erasure_id)
        except RecollectError as error:
            log.warning("erasure waits", erasure_id=erasure_id, reason=error.reason)
            return False

    async def _renew(self, erasure_id: str) -> None:
        """Keep the lease. If it is lost all the same, two do the same work, which does no harm."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            with suppress(Unavailable):
                await self._store.prolong(erasure_id, LEASE_SECONDS)

    async def _attempt(self, erasure_id: str) -> bool:
        """Erase and search everywhere; False if anything is left or did not answer."""
        erasure = await self._store.get(erasure_id)
        if erasure.complete:
            return True
        if erasure.scope is not None:
            if not await self._erase_everywhere(erasure, erasure.scope):
                return False
            await self._store.conclude(erasure)
        await self._store.clean_files()
        await self._store.complete(erasure_id)
        log.info("user erased", erasure_id=erasure_id)
        return True

    async def _erase_everywhere(self, erasure: Erasure, scope: Scope) -> bool:
        await self._remove_rows(erasure)
        if await self._store.being_fed(erasure):
            # What a feeder reads now may be written when the store was emptied.
            return False
        clean = True
        for place in (_Here(self._forget), *await self._places()):
            found = await self._empty(place, scope)
            await self._store.note(erasure.erasure_id, place.name, found)
            clean &= found.clean
        # Last, so that a row that came in spite of all is seen.
        await self._remove_rows(erasure)
        for name, count in (await self._store.count_rows(erasure)).items():
            await self._store.note(erasure.erasure_id, name, ErasedStore(remaining=count))
            clean &= not count
        return clean

    async def _remove_rows(self, erasure: Erasure) -> None:
        while (await self._store.remove_rows(erasure)).more:
            pass

    async def _empty(self, place: UserData, scope: Scope) -> ErasedStore:
        removed = 0
        try:
            async with asyncio.timeout(STEP_SECONDS):
                removed = await place.erase(scope)
            async with asyncio.timeout(STEP_SECONDS):
                return ErasedStore(removed, await place.count(scope))
        except RecollectError as error:
            problem = error.message
        except TimeoutError:
            problem = f"it did not answer within {STEP_SECONDS:g} seconds"
        except Exception:
            log.exception("a store was not erased", store=place.name)
            problem = "it failed unexpectedly; see the server's log"
        log.warning("a store waits for an erasure", store=place.name, problem=problem)
        return ErasedStore(removed, problem=problem)


class _Here:
    """What this process remembers, as a place."""

    name = INDEX

    def __init__(self, forget: Callable[[Scope], int]) -> None:
        self._forget = forget

    async def erase(self, scope: Scope) -> int:
        return self._forget(scope)

    async def count(self, scope: Scope) -> int:
        return self._forget(scope)

"""The worker that brings vector stores up to date from SQL, and carries out moves between them."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from recollect_server.errors import Unavailable
from recollect_server.memory.vector_store import (
    EXACT_URL,
    Feed,
    OpenVectorStore,
    RegisteredStore,
    VectorFeeds,
    VectorStore,
    VectorStoreState,
)

log = structlog.get_logger("recollect.feeding")

IDLE_SECONDS = 0.1
"""How often a store's feeds are asked for work: what a write waits at most to be fed."""

STORES_SECONDS = 1.0
"""How often the list of stores is read."""

CHECK = timedelta(seconds=10)
"""How often a store is asked whether it still has what it had."""

CONCURRENCY = 4
"""Users fed at once to a store."""

PAGE_SECONDS = 35.0
"""A page that takes longer is given up: it must not be written after its lease ends."""

FIRST_RETRY_SECONDS = 0.5
LONGEST_RETRY_SECONDS = 10.0

RETIRED_SECONDS = 15.0
"""How long a store is kept after another took over: many times what servers take to notice."""


class Feeder:
    """Feeds every registered store until it is cancelled.

    A store that is down delays no other. Several processes may feed at once: a user's feed is
    leased, and every step may be repeated.

    Args:
        clock: returns the present as an aware UTC datetime.
        tends: whether a store is to be fed by this process.
    """

    def __init__(
        self,
        feeds: VectorFeeds,
        open_store: OpenVectorStore,
        clock: Callable[[], datetime],
        tends: Callable[[RegisteredStore], bool] = lambda _: True,
    ) -> None:
        self._feeds = feeds
        self._open_store = open_store
        self._clock = clock
        self._tends = tends
        self._known: dict[int, RegisteredStore] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Work until cancelled; an outage of SQL is waited out."""
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    stores = await self._feeds.stores()
                except Unavailable as error:
                    log.warning("store unavailable, feeding waits", reason=error.reason)
                else:
                    self._known = {store.store_key: store for store in stores if self._tends(store)}
                    for key in self._known:
                        if key not in self._tasks or self._tasks[key].done():
                            self._tasks[key] = group.create_task(self._tend(key))
                await asyncio.sleep(STORES_SECONDS)

    async def _tend(self, key: int) -> None:
        """Feed a store as long as it is registered."""
        pause = FIRST_RETRY_SECONDS
        checked: datetime | None = None
        while (store := self._known.get(key)) is not None:
            try:
                if checked is None or self._clock() - checked > CHECK:
                    await self._check(store)
                    checked = self._clock()
                await self._drain(store)
                await self._next_state(store)
                pause = FIRST_RETRY_SECONDS
                await asyncio.sleep(IDLE_SECONDS if store.fed else STORES_SECONDS)
            except (Unavailable, TimeoutError) as error:
                checked = None
                reason = error.reason if isinstance(error, Unavailable) else "TIMEOUT"
                log.warning("vector store is behind", store=store.name, reason=reason)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY_SECONDS)
            except Exception:
                checked = None
                log.exception("feeding failed", store=store.name)
                await asyncio.sleep(LONGEST_RETRY_SECONDS)

    def _open(self, store: RegisteredStore) -> VectorStore:
        return self._open_store(store.url, store.name, store.dimensions)

    async def _check(self, store: RegisteredStore) -> None:
        if not store.fed or store.state is VectorStoreState.RETIRED:
            return
        if not await self._open(store).exists():
            log.warning("vector store was lost, filling it again", store=store.name)
            # In this order, so that a crash in between does not leave an empty one for full.
            await self._feeds.refill(store)
            await self._open(store).create()

    async def _drain(self, store: RegisteredStore) -> None:
        """Feed until nothing is behind."""
        if not store.fed or not await self._feed_one(store):
            return

        async def feed_all() -> None:
            while await self._feed_one(store):
                pass

        results = await asyncio.gather(
            *(feed_all() for _ in range(CONCURRENCY)), return_exceptions=True
        )
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _feed_one(self, store: RegisteredStore) -> bool:
        feed = await self._feeds.lease_feed(store)
        if feed is None:
            return False
        try:
            async with asyncio.timeout(PAGE_SECONDS):
                through = await self._apply_page(feed)
        except (Unavailable, TimeoutError) as error:
            reason = error.message if isinstance(error, Unavailable) else "it took too long"
            await self._feeds.give_back(feed, reason)
            raise
        except asyncio.CancelledError:
            # The next holder need not wait for the lease to end.
            await asyncio.shield(self._feeds.give_back(feed, "interrupted"))
            raise
        await self._feeds.advance(feed, through)
        return True

    async def _apply_page(self, feed: Feed) -> int:
        page = await self._feeds.read_page(feed)
        store = self._open(feed.store)
        if page.deletes:
            await store.delete(feed.scope, page.deletes)
        if page.points:
            await store.upsert(feed.scope, page.points)
        return page.through

    async def _next_state(self, store: RegisteredStore) -> None:
        if store.state is VectorStoreState.FILLING:
            if await self._feeds.take_over(store):
                log.info("vector store took over", store=store.name)
        elif store.state is VectorStoreState.RETIRED and self._is_over(store):
            if store.url != EXACT_URL:
                await self._open(store).drop()
            await self._feeds.forget_store(store)
            self._known.pop(store.store_key, None)
            log.info("vector store dropped", store=store.name)

    def _is_over(self, store: RegisteredStore) -> bool:
        return self._clock() - store.state_time >= timedelta(seconds=RETIRED_SECONDS)

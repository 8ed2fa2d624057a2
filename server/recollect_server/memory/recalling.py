"""Recall: what the index ranks, read whole, and waiting until a write can be found."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from recollect_server.errors import DeadlineExceeded, Reason, Unavailable
from recollect_server.memory.model import Episode, Fact, MemoryKind, Message
from recollect_server.memory.ports import (
    EpisodeStore,
    FactStore,
    IndexSource,
    Ranked,
    RecallFilter,
    RecallIndex,
    ScoreTerm,
    SessionStore,
)
from recollect_server.scope import Scope

FIRST_POLL_SECONDS = 0.005
LONGEST_POLL_SECONDS = 0.1
HURRY_SECONDS = 0.25
"""How often a recall that waits asks for the next of the user's texts."""


@dataclass(frozen=True, slots=True)
class RecallHit:
    """A found item, whole.

    Attributes:
        score: comparable within one recall only.
        terms: the addends of the score.
    """

    kind: MemoryKind
    item: Fact | Message | Episode
    score: float
    terms: tuple[ScoreTerm, ...]


@dataclass(frozen=True, slots=True)
class Recalled:
    """What a recall found, best first.

    Attributes:
        words_only: the embedder was down, words alone made the rank.
    """

    hits: tuple[RecallHit, ...]
    indexed_revision: int
    words_only: bool


class Recaller:
    """Finds a user's messages, facts and episodes by meaning and words.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        *,
        sessions: SessionStore,
        facts: FactStore,
        episodes: EpisodeStore,
        index: RecallIndex,
        source: IndexSource,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._facts = facts
        self._episodes = episodes
        self._index = index
        self._source = source
        self._clock = clock

    def expect(self, scope: Scope, query: str) -> None:
        """Begin what a recall that comes in a moment will wait for."""
        self._index.expect(scope, query)

    async def recall(
        self,
        scope: Scope,
        query: str,
        *,
        kinds: frozenset[MemoryKind],
        filter: RecallFilter,
        limit: int,
        min_revision: int = 0,
        deadline: float | None = None,
    ) -> Recalled:
        """Find items by meaning and words; of facts those that hold now.

        Args:
            min_revision: wait until writes up to this revision can be found by meaning.
            deadline: on the event loop's clock, for that wait.

        Raises:
            DeadlineExceeded: REVISION_NOT_INDEXED.
        """
        if min_revision:
            await self._wait_indexed(scope, min_revision, deadline)
        result = await self._index.search(scope, query, kinds=kinds, filter=filter, limit=limit)
        items = await self._whole(scope, result.ranked)
        hits = [
            RecallHit(ranked.kind, item, ranked.score, ranked.terms)
            for ranked in result.ranked
            if (item := items.get((ranked.kind, ranked.item_id))) is not None
        ]
        return Recalled(tuple(hits), result.indexed_revision, result.degraded)

    async def _whole(
        self, scope: Scope, ranked: Sequence[Ranked]
    ) -> dict[tuple[MemoryKind, str], Fact | Message | Episode]:
        """Return what was ranked and still exists; of facts those that hold."""
        now = self._clock()
        turns = [(r.session_id, r.sequence) for r in ranked if r.kind is MemoryKind.TURN]
        facts = [r.item_id for r in ranked if r.kind is MemoryKind.FACT]
        episodes = tuple(r.item_id for r in ranked if r.kind is MemoryKind.EPISODE)
        items: dict[tuple[MemoryKind, str], Fact | Message | Episode] = {}
        for message in await self._sessions.find_messages(scope, turns):
            items[MemoryKind.TURN, message.message_id] = message
        for fact in await self._facts.get_facts(scope, facts):
            if fact.holds_at(now):
                items[MemoryKind.FACT, fact.fact_id] = fact
        for episode in await self._episodes.get_episodes(scope, episodes):
            items[MemoryKind.EPISODE, episode.episode_id] = episode
        return items

    async def _wait_indexed(self, scope: Scope, revision: int, deadline: float | None) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_POLL_SECONDS
        hurried = -HURRY_SECONDS
        while True:
            _, indexed = await self._source.user_revision(scope)
            if indexed >= revision:
                return
            if deadline is not None and loop.time() + pause >= deadline:
                raise DeadlineExceeded(
                    Reason.REVISION_NOT_INDEXED,
                    f"min_revision is {revision}, the index is at {indexed}",
                )
            if loop.time() >= hurried + HURRY_SECONDS:
                with contextlib.suppress(Unavailable):  # it is only a wish
                    await self._source.hurry(scope)
                hurried = loop.time()
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_POLL_SECONDS)

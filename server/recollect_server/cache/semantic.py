"""The semantic tier: the nearest entries, and whether one of them answers this conversation."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog

from recollect_server.cache.conversation import Conversation, Verifier
from recollect_server.cache.dialogue import Dialogue
from recollect_server.cache.keys import answer_key, question_key
from recollect_server.cache.model import (
    CacheTier,
    Explanation,
    LookupOptions,
    LookupResult,
    MissReason,
    Partition,
    StoredAnswer,
    Strategy,
    Tombstone,
)
from recollect_server.cache.ports import AnswerStore, CacheRecords
from recollect_server.cache.vectors import MessageVectors
from recollect_server.cache.verifier import candidate_vector, window_text
from recollect_server.errors import Unavailable
from recollect_server.memory.model import Vector

log = structlog.get_logger("recollect.cache")

CANDIDATES = 4
WINDOW_CANDIDATES = 16
"""CONTEXT_WINDOW orders so many entries, near as whole conversations, by their last messages."""

ROUNDS = 3
"""How often the nearest are asked for again because some turned out to be gone."""

WINDOW_DISTANCE = 0.12
"""The recipe's."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """A candidate, and how sure it is.

    Attributes:
        sureness: a probability, or one minus a distance.
    """

    answer: StoredAnswer
    sureness: float


class SemanticTier:
    """Looks among the entries of a group for one that answers a conversation.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        vectors: MessageVectors,
        store: AnswerStore,
        records: CacheRecords,
        verifier: Verifier,
        clock: Callable[[], datetime],
    ) -> None:
        self._vectors = vectors
        self._store = store
        self._records = records
        self._verifier = verifier
        self._clock = clock

    async def lookup(
        self, partition: Partition, group: str, dialogue: Dialogue, options: LookupOptions
    ) -> LookupResult:
        """Return a hit, or the miss that it is.

        Raises:
            Unavailable: the store of answers, or of what was reported of them, is down.
        """
        owner = partition.owner
        ready = asyncio.ensure_future(self._store.prepare(owner))
        try:
            asked = await self._vectors.conversation(dialogue)
        except Unavailable as error:
            log.warning("semantic tier left out", reason=error.reason)
            ready.cancel()
            await asyncio.gather(ready, return_exceptions=True)
            return LookupResult(None, miss_reason=MissReason.DEGRADED, embedder_down=True)
        except BaseException:
            ready.cancel()
            raise
        await ready
        vector = candidate_vector(asked)
        limit = CANDIDATES if options.strategy is Strategy.VERIFIER else WINDOW_CANDIDATES
        near = await self._candidates(partition, group, vector, limit)
        candidates = [each for each in near if each.entry.expire_time > self._clock()]
        if not candidates:
            reason = MissReason.EXPIRED if near else MissReason.NOT_FOUND
            return LookupResult(None, miss_reason=reason, explanation=Explanation())
        question = question_key(dialogue)
        judged = await self._judge(asked, question, vector, candidates, options)
        threshold = self._threshold(options)
        for each in judged:
            if each.sureness < threshold:
                break
            if not await self._reported(partition, question, vector, each):
                return LookupResult(
                    each.answer.entry,
                    tier=CacheTier.SEMANTIC,
                    probability=min(max(each.sureness, 0.0), 1.0),
                    explanation=self._explain(asked, each, options),
                )
        return LookupResult(
            None,
            miss_reason=MissReason.BELOW_THRESHOLD,
            explanation=self._explain(asked, judged[0], options),
        )

    async def _candidates(
        self, partition: Partition, group: str, vector: Vector, limit: int
    ) -> list[StoredAnswer]:
        owner = partition.owner
        found: list[StoredAnswer] = []
        for _ in range(ROUNDS):
            ids = await self._store.nearest(owner, group, vector, limit)
            answers = await self._store.get_many(owner.tenant, ids)
            gone = [i for i, answer in zip(ids, answers, strict=True) if answer is None]
            found = [a for a in answers if a is not None and _fits(a, partition, group)]
            if not gone:
                break
            await self._store.forget(owner, gone)
        return found

    async def _judge(
        self,
        asked: Conversation,
        question: str,
        vector: Vector,
        candidates: Sequence[StoredAnswer],
        options: LookupOptions,
    ) -> list[_Judged]:
        """Return the candidates, the surest first."""
        stored = [c.conversation for c in candidates if c.conversation is not None]
        if options.strategy is Strategy.CONTEXT_WINDOW:
            size = options.window_messages, options.window_characters
            texts = tuple(window_text(each.texts, *size) for each in (asked, *stored))
            windows = await self._vectors.of(texts)
            sure = windows[1:] @ windows[0]
        elif options.max_distance is not None:
            sure = [float(candidate_vector(each) @ vector) for each in stored]
        else:
            sure = self._verifier.probabilities(asked, stored)
            # The very same conversation needs no judgement.
            sure[[candidate.question == question for candidate in candidates]] = 1.0
        judged = (_Judged(c, float(s)) for c, s in zip(candidates, sure, strict=True))
        return sorted(judged, key=lambda each: -each.sureness)

    def _threshold(self, options: LookupOptions) -> float:
        if options.max_distance is not None:
            return 1.0 - options.max_distance
        if options.strategy is Strategy.CONTEXT_WINDOW:
            return 1.0 - WINDOW_DISTANCE
        return self._verifier.threshold(options.max_false_hit_rate)

    def _explain(self, asked: Conversation, judged: _Judged, options: LookupOptions) -> Explanation:
        return Explanation(
            judged.answer.entry.entry_id,
            judged.sureness,
            self._threshold(options),
            self._features(asked, judged, options),
        )

    def _features(
        self, asked: Conversation, judged: _Judged, options: LookupOptions
    ) -> dict[str, float]:
        stored = judged.answer.conversation
        if not options.explain or stored is None:
            return {}
        if options.strategy is Strategy.CONTEXT_WINDOW or options.max_distance is not None:
            return {"distance": 1.0 - judged.sureness}
        return dict(self._verifier.explain(asked, stored))

    async def _reported(
        self, partition: Partition, question: str, vector: Vector, judged: _Judged
    ) -> bool:
        """Whether the answer was reported wrong for this question, or for one that is nearer."""
        answer = answer_key(judged.answer.entry.answer)
        tombstones = await self._records.tombstones(partition, answer)
        if not tombstones:
            return False
        stored = judged.answer.conversation
        own = float(candidate_vector(stored) @ vector) if stored is not None else 1.0
        return any(
            stone.question == question or self._similarity(stone, vector) >= own
            for stone in tombstones
        )

    def _similarity(self, stone: Tombstone, vector: Vector) -> float:
        if stone.vector is None or stone.vector_model != self._vectors.model:
            return -1.0
        return float(stone.vector @ vector) if stone.vector.size == vector.size else -1.0


def _fits(answer: StoredAnswer, partition: Partition, group: str) -> bool:
    """Whether an entry is what the index said: an index that lags serves nobody else's answer."""
    entry = answer.entry
    return (
        answer.conversation is not None
        and group in (answer.group, answer.model_group)
        and (entry.scope, entry.user_id, entry.session_id)
        == (partition.scope, partition.owner.user_id, partition.session_id)
    )

"""Ranking a few items of a corpus that holds no vectors: those that were found elsewhere.

Every feature but `meaning` is of the whole corpus, as without candidates. `meaning` is exact for
the candidates, from their vectors and their neighbours'.
"""

from collections.abc import Collection, Mapping
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recollect_server.memory.model import MemoryKind, Vector
from recollect_server.memory.ports import RecallFilter
from recollect_server.memory.recall.corpus import Corpus, Identity
from recollect_server.memory.recall.layout import WINDOW, Floats
from recollect_server.memory.recall.query import Query
from recollect_server.memory.recall.ranking import Evidence, allowed, rank

ItemKey = tuple[MemoryKind, str]


class Candidates:
    """What a query may find in a corpus, before any vector is known."""

    def __init__(
        self, corpus: Corpus, query: Query, kinds: frozenset[MemoryKind], filter: RecallFilter
    ) -> None:
        self._corpus = corpus
        self._query = query
        self._kinds = kinds
        self._filter = filter
        self._evidence = Evidence(corpus, query, None, kinds)

    @cached_property
    def _passing(self) -> NDArray[np.bool_]:
        return allowed(self._corpus, self._evidence, self._kinds, self._filter)

    @property
    def passing(self) -> int:
        """How many items pass the filter."""
        return int(self._passing.sum())

    @property
    def total(self) -> int:
        """How many items are of the kinds asked for."""
        return int(np.isin(self._evidence.items["kind"], [int(kind) for kind in self._kinds]).sum())

    def all(self) -> set[ItemKey]:
        """Every item that passes the filter."""
        rows = self._evidence.layout.rows[self._evidence.span][self._passing]
        return {(i.kind, i.item_id) for i in map(self._corpus.identities.__getitem__, rows)}

    def by_words(self, limit: int) -> set[ItemKey]:
        """The best items by everything but their vectors."""
        found = rank(
            self._corpus,
            self._query,
            None,
            self._kinds,
            self._filter,
            limit,
            evidence=self._evidence,
        )
        return {(ranked.kind, ranked.item_id) for ranked in found}

    def neighbourhood(self, keys: Collection[ItemKey]) -> list[Identity]:
        """The items of the keys that exist, and those whose vectors count in theirs."""
        evidence = self._evidence
        places = _places(self._corpus, evidence, keys)
        near = {*places.tolist()}
        for d, tie in enumerate(evidence.layout.ties[:WINDOW], 1):
            span = tie[evidence.span.start : max(evidence.span.start, evidence.span.stop - d)]
            after = places[places < len(span)]
            near.update((after[span[after] > 0] + d).tolist())
            before = places[places >= d] - d
            near.update(before[span[before] > 0].tolist())
        rows = evidence.layout.rows[evidence.span]
        return [self._corpus.identities[rows[place]] for place in sorted(near)]


class CandidateEvidence(Evidence):
    """Evidence in which only candidates are relevant.

    Args:
        vector: of the query.
        keys: the candidates.
        vectors: of the candidates and their neighbours, by their keys; unit length.
    """

    def __init__(
        self,
        corpus: Corpus,
        query: Query,
        vector: Vector,
        kinds: frozenset[MemoryKind],
        keys: Collection[ItemKey],
        vectors: Mapping[ItemKey, Vector],
    ) -> None:
        super().__init__(corpus, query, vector, kinds)
        self._places = _places(corpus, self, keys)
        norm = np.zeros(len(self.items), np.float32)
        self._cosine = np.zeros(len(self.items), np.float32)
        if vectors:
            known = list(vectors)
            at = _places_of(corpus, self, known)
            matrix = np.stack([vectors[key] for key in known])[at >= 0]
            index = np.full(len(self.items), len(matrix), np.int64)
            index[at[at >= 0]] = np.arange(len(matrix))
            matrix = np.concatenate([matrix, np.zeros((1, matrix.shape[1]), np.float32)])
            total = self._windows(matrix, index)
            norm[self._places] = np.linalg.norm(total, axis=1)
            self._cosine[self._places] = total @ vector
        # The ranking goes by `norm` where it asks whether an item has a vector.
        self.items = self.items.copy()
        self.items["norm"] = norm

    @property
    def meaning(self) -> Floats:
        """As in `Evidence`, for candidates; one without any vector counts as the least near."""
        cosine = np.zeros_like(self._cosine)
        norm = self.items["norm"]
        known = norm > 0
        cosine[known] = self._cosine[known] / norm[known]
        if known.any():
            cosine[~known] = cosine[known].min()
        return cosine

    def relevant(self) -> NDArray[np.bool_]:
        """As in `Evidence`, and a candidate."""
        candidate = np.zeros(len(self.items), np.bool_)
        candidate[self._places] = True
        return np.asarray(candidate & super().relevant(), np.bool_)

    def _windows(self, matrix: Floats, index: NDArray[np.int64]) -> Floats:
        """The candidates' window vectors, shape (candidates, dimensions), not of unit length."""
        places = self._places
        total = matrix[index[places]].copy()
        for d, tie in enumerate(self._ties[:WINDOW], 1):
            weight = tie / np.float32(1 + d)
            after, before = places < len(tie), places >= d
            total[after] += weight[places[after], None] * matrix[index[places[after] + d]]
            total[before] += weight[places[before] - d, None] * matrix[index[places[before] - d]]
        return total


def _places_of(corpus: Corpus, evidence: Evidence, keys: Collection[ItemKey]) -> NDArray[np.intp]:
    """The keys' places within the evidence's span, -1 where there is none; shape (keys,)."""
    rows = [corpus.row(key) for key in keys]
    position = np.array(
        [-1 if row is None else evidence.layout.position[row] for row in rows], np.intp
    )
    inside = (position >= evidence.span.start) & (position < evidence.span.stop)
    return np.where(inside, position - evidence.span.start, -1)


def _places(corpus: Corpus, evidence: Evidence, keys: Collection[ItemKey]) -> NDArray[np.intp]:
    """The places of those keys that are there, in order."""
    places = _places_of(corpus, evidence, list(keys))
    return np.unique(places[places >= 0])

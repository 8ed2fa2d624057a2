"""The order of what is found: a weighted sum of seven features, each explained.

The weights lie between those that a listwise softmax learns and those that serve the worst of
several kinds of conversation: two friends, a user and an assistant with short and with long
answers, personal statements. See docs/recall.md for what each part is worth on each of them. The
length of a message is compared with a fixed one rather than with the corpus's mean, a long message
neither lends words and vectors to its neighbours nor borrows theirs, and words count for less in a
long question, whose many words say less each.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from recollect_server.memory.model import MemoryKind, Role, Vector
from recollect_server.memory.ports import Ranked, RecallFilter, ScoreTerm
from recollect_server.memory.recall.corpus import Corpus, Identity
from recollect_server.memory.recall.dates import NamedDate
from recollect_server.memory.recall.layout import WINDOW, Floats
from recollect_server.memory.recall.query import Query

# BM25 (Robertson & Zaragoza 2009) with a fixed pivot in place of the mean length, so that a
# score does not move when other items come and go.
K1 = 0.4
B = 0.5
PIVOT_TERMS = 40
NEIGHBOUR_WORDS = 0.4
"""Term frequency that a neighbour's word counts as, divided by its distance in turns."""

USUAL_TERMS = 4
LONG_QUERY = 0.75
"""A question of n > USUAL_TERMS terms has each count for (USUAL_TERMS / n) ** LONG_QUERY."""

MEANT = 0.8
"""Of naming the speaker, how much it is to say "I" or "you"."""

ADDRESSED = 0.4
"""How much any message of a user asks the assistant that speaks next."""

MAX_TERMS = 24
"""Only the rarest terms of a very long query count."""

MIN_MEANING = 0.0
"""Cosine up to which an item that shares no word and no date with the query is not returned."""


class Evidence:
    """One query against one corpus; each feature is an array of shape (P,) over `span`.

    Args:
        vector: of the query, None to rank by words alone.
        kinds: what may be found.
    """

    def __init__(
        self, corpus: Corpus, query: Query, vector: Vector | None, kinds: frozenset[MemoryKind]
    ) -> None:
        self.layout = corpus.layout()
        self.span = self.layout.span(kinds)
        self.items = self.layout.items[self.span]
        self._corpus = corpus
        self._query = query
        self._vector = vector
        self._ties = tuple(
            tie[self.span.start : max(self.span.start, self.span.stop - d)]
            for d, tie in enumerate(self.layout.ties, 1)
            if d < len(self.items)
        )

    @cached_property
    def words(self) -> Floats:
        """BM25 over the item's words and, as fractions of an occurrence, its neighbours'."""
        found, idf = self.occurrences
        if not len(idf):
            return np.zeros(len(self.items), np.float32)
        counts = found.copy()
        present = (found > 0).astype(np.float32)
        for d, tie in enumerate(self._ties, 1):
            lent = tie * np.float32(NEIGHBOUR_WORDS / d)
            np.maximum(counts[:, d:], present[:, :-d] * lent, out=counts[:, d:])
            np.maximum(counts[:, :-d], present[:, d:] * lent, out=counts[:, :-d])
        length = np.float32(K1) * (1 - B + B * self.items["terms"] / np.float32(PIVOT_TERMS))
        score = idf @ (counts * np.float32(K1 + 1) / (counts + length))
        long_query = min(1, USUAL_TERMS / len(self._query.terms)) ** LONG_QUERY
        return np.asarray(score * long_query, np.float32)

    @cached_property
    def own(self) -> Floats:
        """Cosine between the query and the item's own vector, 0 without one or the other."""
        if self._vector is None:
            return np.zeros(len(self.items), np.float32)
        return self._corpus.similarities(self._vector)[self.layout.rows[self.span]]

    @cached_property
    def meaning(self) -> Floats:
        """Cosine between the query and the item's window vector: the sum of its own vector and
        those of its neighbours, weight 1 / (1 + distance). The mean where there is no vector."""
        if self._vector is None:
            return np.zeros(len(self.items), np.float32)
        own = self.own
        total = own.copy()
        for d, tie in enumerate(self._ties[:WINDOW], 1):
            weight = tie / np.float32(1 + d)
            total[d:] += own[:-d] * weight
            total[:-d] += own[d:] * weight
        norm = self.items["norm"]
        known = norm > 0
        cosine = np.zeros_like(total)
        cosine[known] = total[known] / norm[known]
        if known.any():
            cosine[~known] = cosine[known].mean()
        return cosine

    @cached_property
    def speaker(self) -> Floats:
        """1 where the query names who speaks, MEANT where it does so by "I" or "you"."""
        speaker, role = self.items["speaker"], self.items["role"]
        named = np.isin(speaker, self._corpus.speaker_numbers(self._query.speakers))
        meant = np.isin(role, [int(role) for role in self._query.roles])
        turn = self.items["kind"] == MemoryKind.TURN
        return np.asarray(turn * np.maximum(named, MEANT * meant), np.float32)

    @cached_property
    def question(self) -> Floats:
        """The share of the item that asks rather than tells."""
        return np.asarray(self.items["question"], np.float32)

    @cached_property
    def reply(self) -> Floats:
        """How much like the query was the question that the item follows, 0 to 1: the share of
        the query's words, weighted by idf, that another speaker's turn just before it holds,
        times how much that turn asks and how short it is. A user's turn asks an assistant's."""
        value = np.zeros(len(self.items), np.float32)
        found, idf = self.occurrences
        if len(idf) and len(value) > 1:
            before, item = self.items[:-1], self.items[1:]
            answers = (before["group"] == item["group"]) & (before["speaker"] != item["speaker"])
            addressed = (before["role"] == Role.USER) & (item["role"] == Role.ASSISTANT)
            asked = np.maximum(before["question"], ADDRESSED * addressed)
            shared = idf @ (found[:, :-1] > 0) / idf.sum()
            value[1:] = shared * asked * before["locality"] * answers
        return value

    @cached_property
    def date(self) -> Floats:
        """1 where the query names the item's month, 2 where also its day, 0.5 for its year; half of
        that, and 0.7 for its week, where it counts from the present."""
        best = np.zeros(len(self.items), np.float32)
        for named in self._query.dates:
            np.maximum(best, _date_match(self.items, named), out=best)
        time = self.items["time"]
        for period in self._query.periods:
            within = (time >= period.start) & (time < period.end)
            np.maximum(best, within * np.float32(period.worth), out=best)
        return best

    @cached_property
    def time(self) -> Floats:
        """1 where the query asks for a time and the item tells one."""
        return np.asarray(self.items["timed"] & self._query.asks_for_time, np.float32)

    def relevant(self) -> NDArray[np.bool_]:
        """Where there is any reason to return the item."""
        near = (self.items["norm"] > 0) & (self.meaning > MIN_MEANING)
        return np.asarray((self.words > 0) | near | (self.date > 0), np.bool_)

    @cached_property
    def occurrences(self) -> tuple[Floats, Floats]:
        """How often each term occurs at each position, (terms, P), and its idf, (terms,)."""
        known = []
        for term in self._query.terms:
            pairs = self._corpus.postings(term)
            at = self.layout.position[pairs[:, 0]]
            living = at >= 0
            if df := int(living.sum()):
                size = len(self.layout.rows)
                known.append((math.log1p((size - df + 0.5) / (df + 0.5)), at, pairs[:, 1]))
        # Rarest first, at most as many as count.
        known = sorted(known, key=lambda entry: -entry[0])[:MAX_TERMS]
        found = np.zeros((len(known), len(self.items)), np.float32)
        for row, (_, at, count) in enumerate(known):
            inside = (at >= self.span.start) & (at < self.span.stop)
            found[row, at[inside] - self.span.start] = count[inside]
        return found, np.array([idf for idf, _, _ in known], np.float32)


@dataclass(frozen=True, slots=True)
class Feature:
    """A part of the score: contribution = weight x value."""

    name: str
    weight: float
    value: Callable[[Evidence], Floats]


FEATURES = (
    Feature("words", 0.45, lambda e: e.words),
    Feature("meaning", 10.0, lambda e: e.meaning),
    Feature("speaker", 2.5, lambda e: e.speaker),
    Feature("question", -1.8, lambda e: e.question),
    Feature("reply", 5.0, lambda e: e.reply),
    Feature("date", 4.3, lambda e: e.date),
    Feature("time", 2.75, lambda e: e.time),
)


def rank(
    corpus: Corpus,
    query: Query,
    vector: Vector | None,
    kinds: frozenset[MemoryKind],
    filter: RecallFilter,
    limit: int,
    features: tuple[Feature, ...] = FEATURES,
    evidence: Evidence | None = None,
) -> list[Ranked]:
    """Return the best `limit` items that pass the filter, best first.

    Equal scores go to the later item, then to the smaller ids.

    Args:
        vector: of `query.embedding_text`, None to rank by words alone.
        features: what the score is made of; the default but for measurements.
        evidence: of this query, where it is not to be made from the whole corpus.
    """
    evidence = evidence or Evidence(corpus, query, vector, kinds)
    places = np.flatnonzero(evidence.relevant() & allowed(corpus, evidence, kinds, filter))
    if limit <= 0 or not len(places):
        return []
    values = [(feature, feature.value(evidence)) for feature in features]
    score = sum((v[places] * np.float32(f.weight) for f, v in values), np.zeros(len(places)))
    # Rounded, so that ties do not hang on the order of a sum.
    best = _best(corpus, evidence, places, np.round(score, 5), limit)
    return [
        Ranked(
            identity.kind,
            identity.item_id,
            identity.session_id,
            identity.sequence,
            points,
            tuple(
                ScoreTerm(feature.name, float(value[place]), feature.weight)
                for feature, value in values
                if value[place]
            ),
        )
        for points, place, identity in best
    ]


def _best(
    corpus: Corpus,
    evidence: Evidence,
    places: NDArray[np.intp],
    score: NDArray[np.float64],
    limit: int,
) -> list[tuple[float, int, Identity]]:
    """Return (score, place, identity) of the best `limit` places in their order."""
    if len(places) > limit:
        last = np.partition(score, -limit)[-limit]
        places, score = places[score >= last], score[score >= last]
    times = evidence.items["time"][places]
    rows = evidence.layout.rows[evidence.span][places]
    found = [
        (points, place, time, corpus.identities[row])
        for points, place, time, row in zip(
            score.tolist(), places.tolist(), times.tolist(), rows.tolist(), strict=True
        )
    ]
    found.sort(
        key=lambda f: (-f[0], -f[2], f[3].kind, f[3].session_id, -f[3].sequence, f[3].item_id)
    )
    return [(points, place, identity) for points, place, _, identity in found[:limit]]


def _date_match(items: NDArray[np.void], named: NamedDate) -> Floats:
    year = (items["year"] == named.year) | (named.year == 0)
    if not named.month:
        return np.asarray(year * 0.5, np.float32)
    month = year & (items["month"] == named.month)
    day = month & (items["day"] == named.day)
    return np.asarray(month, np.float32) + np.asarray(day, np.float32)


def allowed(
    corpus: Corpus, evidence: Evidence, kinds: frozenset[MemoryKind], filter: RecallFilter
) -> NDArray[np.bool_]:
    """Which of the evidence's places pass the filter, shape (P,)."""
    items = evidence.items
    passing = np.isin(items["kind"], [int(kind) for kind in kinds])
    if filter.session_ids:
        passing &= np.isin(items["group"], corpus.group_numbers(filter.session_ids))
    if filter.start is not None:
        passing &= items["time"] >= filter.start.timestamp()
    if filter.end is not None:
        passing &= items["time"] < filter.end.timestamp()
    if filter.metadata or filter.fact_kinds:
        rows = evidence.layout.rows[evidence.span]
        for place in np.flatnonzero(passing).tolist():
            identity = corpus.identities[rows[place]]
            passing[place] = _has(identity.metadata, filter.metadata) and (
                not filter.fact_kinds or identity.fact_kind in (None, *filter.fact_kinds)
            )
    return np.asarray(passing, np.bool_)


def _has(metadata: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return all(metadata.get(name) == value for name, value in wanted.items())

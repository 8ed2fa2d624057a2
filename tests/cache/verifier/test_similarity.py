"""Similarities that are computed for all candidates at once are what their words say."""

import numpy as np
import pytest

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.verifier.similarity import similarities
from recollect_server.cache.verifier.vectors import last_answer, mean_of
from recollect_server.memory.model import Role

DIMENSIONS = 24


def generated(chance: np.random.Generator, topics: np.ndarray) -> Conversation:
    count = int(chance.integers(1, 12))
    roles = [(Role.USER, Role.ASSISTANT)[number] for number in chance.integers(0, 2, count)]
    vectors = topics[chance.integers(0, len(topics), count)]
    vectors = vectors + 0.2 * chance.normal(size=vectors.shape)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    texts = tuple(f"text {number}" for number in range(count))
    return Conversation((*roles[:-1], Role.USER), texts, vectors.astype(np.float32), "any")


def plainly(a: Conversation, s: Conversation) -> dict[str, float]:
    """Compute the similarities of a pair one by one."""
    (qa, qs), (ha, hs) = (a.vectors[-1], s.vectors[-1]), (a.vectors[:-1], s.vectors[:-1])
    ua, us = (
        np.array([v for v, r in zip(h, c.roles, strict=False) if r is Role.USER]).reshape(-1, 24)
        for h, c in ((ha, a), (hs, s))
    )
    alone = not len(ha) and not len(hs)
    turns = ha[-6:] @ hs[-6:].T
    ends = [float(x @ y) for x, y in zip(ha[::-1][:4], hs[::-1][:4], strict=False)]
    pa, ps = (mean_of(np.stack([q, mean_of(h[-4:])])) for q, h in ((qa, ha), (qs, hs)))
    question = qa @ qs
    return {
        "question": question,
        "history": 1.0 if alone else mean_of(ha) @ mean_of(hs),
        "users": 1.0 if alone else mean_of(ua) @ mean_of(us),
        "answer": 1.0 if alone else last_answer(a) @ last_answer(s),
        "recent": mean_of(a.vectors[-6:]) @ mean_of(s.vectors[-6:]),
        "turns": (
            (turns.max(axis=0).mean() + turns.max(axis=1).mean()) / 2
            if turns.size
            else float(alone)
        ),
        "asked_before": max(0.0, (us[-4:] @ qa).max() - question) if len(us) else 0.0,
        "stored_before": max(0.0, (ua[-4:] @ qs).max() - question) if len(ua) else 0.0,
        "previous": ua[-1] @ us[-1] if len(ua) and len(us) else float(len(ua) == len(us)),
        "aligned": min(ends, default=float(alone)),
        "placed": max(question, qa @ ps, pa @ qs),
    }


@pytest.mark.parametrize("seed", range(40))
def test_all_at_once_is_as_one_by_one(seed: int) -> None:
    chance = np.random.default_rng(seed)
    topics = chance.normal(size=(6, DIMENSIONS))
    asked, *stored = (generated(chance, topics) for _ in range(5))
    for found, other in zip(similarities(asked, stored), stored, strict=True):
        for name, value in plainly(asked, other).items():
            assert getattr(found, name) == pytest.approx(value, abs=1e-5), name


def test_with_nothing_stored_there_is_nothing() -> None:
    chance = np.random.default_rng(1)
    assert similarities(generated(chance, chance.normal(size=(6, DIMENSIONS))), []) == []

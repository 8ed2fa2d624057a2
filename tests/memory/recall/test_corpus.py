from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from recollect_server.memory.model import MemoryKind, Role
from recollect_server.memory.ports import IndexItem, RecallFilter
from recollect_server.memory.recall import Corpus, analyse, embedding_text, rank

Turn = Callable[..., IndexItem]

ALL = frozenset(MemoryKind)
VOCABULARY = ["piano", "tulip", "Oslo", "goat", "ran", "yesterday", "why?", "Ana"]


def vector(*numbers: float) -> NDArray[np.float32]:
    """A unit vector of shape (4,)."""
    padded = np.array([*numbers, 0, 0, 0, 0][:4], np.float32)
    return padded / np.linalg.norm(padded)


def found(corpus: Corpus, text: str, query_vector: NDArray[np.float32] | None) -> dict[str, float]:
    """Every returned item's score by id."""
    query = analyse(text, corpus)
    ranked = rank(corpus, query, query_vector, ALL, RecallFilter(), 1000)
    return {f"{r.kind}/{r.item_id}": r.score for r in ranked}


vectors = st.none() | st.lists(st.floats(-1, 1, width=16), min_size=4, max_size=4).filter(
    lambda v: np.linalg.norm(v) > 0.1
).map(lambda v: vector(*v))

texts = st.lists(st.sampled_from(VOCABULARY), max_size=6).map(" ".join)


@st.composite
def items(draw: st.DrawFn, base: IndexItem) -> IndexItem:
    """A turn, or a fact, of few ids so that they collide."""
    sequence = draw(st.integers(1, 12))
    session = draw(st.sampled_from(["a", "b"]))
    item = replace(
        base,
        item_id=f"{session}:{sequence}",
        session_id=session,
        sequence=sequence,
        speaker=draw(st.sampled_from(["user", "Ana", "Bo"])),
        text=draw(texts),
        vector=draw(vectors),
    )
    if draw(st.booleans()):
        return item
    return replace(item, kind=MemoryKind.FACT, session_id="", sequence=0, speaker="")


BASE = IndexItem(
    MemoryKind.TURN,
    "",
    "",
    0,
    Role.USER,
    "",
    "",
    time=datetime(2024, 3, 4, tzinfo=UTC),
    metadata={},
    vector=None,
)

steps = st.lists(st.tuples(st.sampled_from(["upsert", "remove", "read"]), items(BASE)), max_size=60)


@settings(deadline=None)
@given(steps, st.integers(0, 3))
def test_a_changed_corpus_ranks_as_one_built_anew(
    changes: list[tuple[str, IndexItem]], repeats: int
) -> None:
    corpus = Corpus()
    living: dict[tuple[MemoryKind, str], IndexItem] = {}
    for _ in range(repeats + 1):
        for change, item in changes:
            key = (item.kind, item.item_id)
            if change == "upsert":
                corpus.upsert([item])
                living[key] = item
            elif change == "remove":
                corpus.remove([key])
                living.pop(key, None)
            else:
                corpus.layout()
                corpus.names()
    anew = Corpus()
    anew.upsert(list(living.values()))
    assert len(corpus) == len(living)
    assert corpus.names() == anew.names()
    for text in ("When did Ana play the piano?", "tulip goat Oslo", "Bo"):
        for query_vector in (None, vector(1, 0.5, -0.5, 0.2)):
            assert found(corpus, text, query_vector) == pytest.approx(
                found(anew, text, query_vector), abs=1e-3
            )


def test_removed_items_do_not_stay_in_memory_for_ever(turn: Turn) -> None:
    corpus = Corpus()
    for i in range(2000):
        corpus.upsert([turn(i, f"word{i} piano", vector=vector(1))])
        corpus.remove([(MemoryKind.TURN, f"s:{i}")])
        if i % 50 == 0:
            corpus.layout()
    assert len(corpus) == 0
    assert corpus.nbytes < 300_000


def test_an_item_whose_text_changed_is_not_found_by_its_old_words(fact: Turn) -> None:
    corpus = Corpus()
    corpus.upsert([fact("f", "plays the piano")])
    corpus.upsert([fact("f", "plays the cello")])
    assert found(corpus, "piano", None) == {}
    assert len(found(corpus, "cello", None)) == 1


def test_a_vector_that_arrives_later_counts_at_once(turn: Turn) -> None:
    corpus = Corpus()
    corpus.upsert([turn(1, "the feline slept"), turn(2, "rain", session="t")])
    assert found(corpus, "cat", vector(1)) == {}
    corpus.upsert([turn(1, "the feline slept", vector=vector(1))])
    assert list(found(corpus, "cat", vector(1))) == [f"{MemoryKind.TURN}/s:1"]


def test_a_vector_taken_back_counts_no_more(turn: Turn) -> None:
    corpus = Corpus()
    corpus.upsert([turn(1, "the feline slept", vector=vector(1))])
    corpus.upsert([turn(1, "the feline slept")])
    assert found(corpus, "cat", vector(1)) == {}


def test_a_removed_turn_lends_nothing_to_its_neighbours(turn: Turn) -> None:
    corpus = Corpus()
    corpus.upsert([turn(1, "the piano", vector=vector(1)), turn(2, "indeed", vector=vector(0, 1))])
    before = found(corpus, "piano", vector(1))
    assert f"{MemoryKind.TURN}/s:2" in before
    corpus.remove([(MemoryKind.TURN, "s:1")])
    assert found(corpus, "piano", vector(1)) == {}


def test_vectors_of_another_length_are_refused(turn: Turn) -> None:
    corpus = Corpus()
    corpus.upsert([turn(1, "a", vector=vector(1))])
    with pytest.raises(ValueError, match="vector of 3"):
        corpus.upsert([turn(2, "b", vector=np.ones(3, np.float32))])


def test_the_estimate_of_memory_grows_with_the_items(turn: Turn) -> None:
    corpus = Corpus()
    empty = corpus.nbytes
    rows = 1000
    corpus.upsert([turn(i, f"word{i}", vector=vector(1)) for i in range(rows)])
    assert corpus.nbytes - empty > rows * 4 * 4


def test_what_is_embedded_is_the_text_without_the_speaker(turn: Turn) -> None:
    assert embedding_text(turn(1, " I play. ", speaker="Ana")) == "I play."

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from recollect_server.memory.model import MemoryKind, Role
from recollect_server.memory.ports import IndexItem, Ranked, RecallFilter
from recollect_server.memory.recall import Corpus, analyse, rank

Turn = Callable[..., IndexItem]

TURNS = frozenset({MemoryKind.TURN})


def unit(*numbers: float) -> NDArray[np.float32]:
    """A unit vector of shape (3,)."""
    padded = np.array([*numbers, 0, 0][:3], np.float32)
    return padded / np.linalg.norm(padded)


def ask(
    items: list[IndexItem],
    text: str,
    vector: NDArray[np.float32] | None = None,
    *,
    kinds: frozenset[MemoryKind] = TURNS,
    filter: RecallFilter | None = None,
    limit: int = 10,
) -> list[Ranked]:
    """Rank the items for a query."""
    corpus = Corpus()
    corpus.upsert(items)
    query = analyse(text, corpus)
    return rank(corpus, query, vector, kinds, filter or RecallFilter(), limit)


def ids(ranked: list[Ranked]) -> list[str]:
    """The found items' ids, best first."""
    return [r.item_id for r in ranked]


def test_an_empty_corpus_finds_nothing() -> None:
    assert ask([], "piano", unit(1)) == []


def test_words_alone_find_an_item_without_a_vector(turn: Turn) -> None:
    items = [turn(1, "I play the piano"), turn(1, "Rain again", session="t", vector=unit(0, 1))]
    assert ids(ask(items, "Who plays piano?")) == ["s:1"]
    assert ids(ask(items, "Who plays piano?", unit(1)))[0] == "s:1"


def test_meaning_finds_an_item_that_shares_no_word(turn: Turn) -> None:
    items = [
        turn(1, "The cat slept", vector=unit(1, 0.1), session="a"),
        turn(1, "Rain again", vector=unit(0, 1), session="b"),
    ]
    assert ids(ask(items, "feline", unit(1)))[0] == "a:1"


def test_an_item_with_neither_word_nor_meaning_is_not_returned(turn: Turn) -> None:
    items = [
        turn(1, "piano", vector=unit(1), session="a"),
        turn(1, "rain", vector=unit(-0.2, 1), session="b"),
        turn(1, "goat", session="c"),
    ]
    assert ids(ask(items, "piano", unit(1))) == ["a:1"]


def test_an_answer_is_found_by_the_words_of_the_question_before_it(turn: Turn) -> None:
    items = [
        turn(1, "Which instrument should I learn?"),
        turn(2, "Take the cello.", speaker="assistant", role=Role.ASSISTANT),
        *(turn(i, "Nothing much happened.") for i in range(9, 15)),
    ]
    assert ids(ask(items, "learn an instrument"))[0] == "s:2"


def test_words_do_not_cross_sessions(turn: Turn) -> None:
    items = [turn(1, "the piano", session="a"), turn(2, "lovely indeed", session="b")]
    assert ids(ask(items, "piano")) == ["a:1"]


def test_facts_are_not_each_others_neighbours(fact: Turn) -> None:
    items = [fact("1", "plays the piano"), fact("2", "has a goat")]
    assert ids(ask(items, "piano", kinds=frozenset({MemoryKind.FACT}))) == ["1"]


def test_a_long_message_neither_lends_nor_borrows(turn: Turn) -> None:
    essay = " ".join(f"topic{i}" for i in range(600))
    items = [turn(1, "the piano"), turn(2, essay), turn(3, essay + " goat"), turn(4, "indeed")]
    assert ids(ask(items, "piano"))[0] == "s:1"
    scores = {r.item_id: r.score for r in ask(items, "goat piano")}
    assert scores["s:2"] < 0.05 * scores["s:1"]


def test_a_short_message_beats_a_long_one_with_the_same_word(turn: Turn) -> None:
    essay = "piano " + " ".join(f"topic{i}" for i in range(300))
    items = [turn(1, essay, session="a"), turn(1, "My piano is old.", session="b")]
    assert ids(ask(items, "piano")) == ["b:1", "a:1"]


def test_the_named_speaker_comes_first(turn: Turn) -> None:
    items = [
        turn(1, "I bought a kite.", speaker="Bo", session="a"),
        turn(1, "I bought a kite.", speaker="Ana", session="b"),
    ]
    assert ids(ask(items, "What did Ana buy?")) == ["b:1", "a:1"]
    assert ids(ask(items, "What did Bo buy?")) == ["a:1", "b:1"]


def test_what_the_user_did_is_looked_for_in_what_the_user_said(turn: Turn) -> None:
    items = [
        turn(1, "The kite is blue.", session="a"),
        turn(1, "The kite is blue.", session="b", speaker="assistant", role=Role.ASSISTANT),
    ]
    assert ids(ask(items, "Which kite did I buy?")) == ["a:1", "b:1"]
    assert ids(ask(items, "Which kite did you recommend?")) == ["b:1", "a:1"]


def test_a_statement_comes_before_a_question(turn: Turn) -> None:
    items = [
        turn(1, "Is the kite blue?", session="a"),
        turn(1, "The kite is blue.", session="b"),
    ]
    assert ids(ask(items, "blue kite")) == ["b:1", "a:1"]


def test_an_answer_to_the_same_question_comes_before_one_to_another(turn: Turn) -> None:
    def talk(session: str, asked: str) -> list[IndexItem]:
        return [
            turn(1, asked, session=session),
            turn(2, "Blue kites.", session=session, speaker="assistant", role=Role.ASSISTANT),
        ]

    items = [*talk("a", "Which kite flies best?"), *talk("b", "Which kite is cheap?")]
    assert ids(ask(items, "the best kite that flies"))[0] == "a:2"
    monologue = [turn(1, "Which kite flies best?"), turn(2, "Blue kites.")]
    terms = {r.item_id: r.terms for r in ask(monologue, "the best kite that flies")}
    assert "reply" not in {term.name for term in terms["s:2"]}


def test_what_i_told_of_mine_is_looked_for_in_what_the_user_said(turn: Turn) -> None:
    items = [
        turn(1, "The cat is called Tom.", session="a"),
        turn(1, "The cat is called Tim.", session="b", speaker="assistant", role=Role.ASSISTANT),
    ]
    assert ids(ask(items, "What is the name of my cat?")) == ["a:1", "b:1"]
    assert ids(ask(items, "What is the cat called that I bought?")) == ["a:1", "b:1"]
    advice = ask(items, "What would you call my cat?")
    assert {term.name for r in advice for term in r.terms} == {"words"}


def test_the_named_day_comes_before_the_month_before_other_times(turn: Turn) -> None:
    def said(session: str, month: int, day: int) -> IndexItem:
        return turn(
            1, "We went hiking.", session=session, time=datetime(2023, month, day, tzinfo=UTC)
        )

    items = [said("other", 7, 9), said("month", 5, 2), said("day", 5, 9)]
    query = "Where did we hike on 9 May 2023?"
    assert ids(ask(items, query)) == ["day:1", "month:1", "other:1"]
    assert ids(ask(items, "Where did we hike on 9 May 2022?"))[0] == "other:1"


def test_a_named_day_finds_what_shares_no_word(turn: Turn) -> None:
    items = [turn(1, "Hello there", time=datetime(2023, 5, 9, tzinfo=UTC))]
    assert ids(ask(items, "What happened on 9 May 2023?")) == ["s:1"]


def test_a_question_for_a_time_prefers_what_tells_one(turn: Turn) -> None:
    items = [
        turn(1, "The move is done.", session="a"),
        turn(1, "The move was yesterday.", session="b"),
    ]
    assert ids(ask(items, "When was the move?")) == ["b:1", "a:1"]


def test_filters_apply_before_the_best_are_taken(turn: Turn) -> None:
    noon = datetime(2024, 1, 1, 12, tzinfo=UTC)
    items = [
        turn(i, "piano " * (20 - i), session=f"s{i}", time=noon + timedelta(hours=i))
        for i in range(1, 10)
    ]
    items.append(turn(1, "old piano", session="tagged", time=noon, metadata={"app": "x", "n": "1"}))

    def only(**restriction: object) -> set[str]:
        wanted = RecallFilter(**restriction)  # type: ignore[arg-type]  # one field a call
        return set(ids(ask(items, "piano", filter=wanted, limit=2)))

    assert only(session_ids=frozenset({"s9", "unknown"})) == {"s9:9"}
    assert only(session_ids=frozenset({"unknown"})) == set()
    assert only(start=noon + timedelta(hours=8)) == {"s8:8", "s9:9"}
    assert only(end=noon + timedelta(hours=1)) == {"tagged:1"}
    assert only(metadata={"app": "x"}) == {"tagged:1"}
    assert only(metadata={"app": "x", "n": "2"}) == set()


def test_only_the_asked_kinds_are_returned(turn: Turn, fact: Turn) -> None:
    items = [turn(1, "the piano"), fact("f", "plays the piano")]
    assert ids(ask(items, "piano", kinds=frozenset({MemoryKind.FACT}))) == ["f"]
    assert set(ids(ask(items, "piano", kinds=frozenset(MemoryKind)))) == {"s:1", "f"}
    assert ask(items, "piano", kinds=frozenset()) == []


def test_the_limit_keeps_the_best_and_ties_go_to_the_later_item(turn: Turn) -> None:
    items = [turn(i, "piano", session=f"s{i}") for i in range(1, 30)]
    assert ids(ask(items, "piano", limit=3)) == ["s29:29", "s28:28", "s27:27"]
    assert ids(ask(items[::-1], "piano", limit=3)) == ["s29:29", "s28:28", "s27:27"]
    assert ask(items, "piano", limit=0) == []


def test_the_terms_add_up_to_the_score(turn: Turn) -> None:
    items = [
        turn(1, "I moved to Oslo last May.", speaker="Ana", vector=unit(1, 1)),
        turn(2, "Why Oslo?", speaker="Bo", vector=unit(1, 0, 1)),
        turn(3, "For the snow.", speaker="Ana", vector=unit(0, 1, 1)),
    ]
    ranked = ask(items, "When did Ana move to Oslo in March 2024?", unit(1, 0.5))
    assert {t.name for r in ranked for t in r.terms} == {
        "words",
        "meaning",
        "speaker",
        "question",
        "reply",
        "date",
        "time",
    }
    for r in ranked:
        assert sum(t.weight * t.value for t in r.terms) == pytest.approx(r.score, abs=1e-4)


def test_a_very_long_query_is_ranked_by_its_rarest_words(turn: Turn) -> None:
    items = [turn(i, f"common{i % 2} word{i}", session=f"s{i}") for i in range(60)]
    query = "common0 common1 " * 40 + " ".join(f"word{i}" for i in range(24))
    assert {i.split(":")[1] for i in ids(ask(items, query, limit=60))} == {
        str(i) for i in range(24)
    }


def test_chinese_is_found_by_words(turn: Turn) -> None:
    items = [turn(1, "我昨天买了一只黑色的猫", session="a"), turn(1, "今天下雨", session="b")]
    assert ids(ask(items, "黑猫")) == ["a:1"]

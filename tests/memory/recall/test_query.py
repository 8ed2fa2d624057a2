from collections.abc import Callable

import pytest

from recollect_server.memory.model import Role
from recollect_server.memory.ports import IndexItem
from recollect_server.memory.recall import Corpus, analyse
from recollect_server.memory.recall.dates import NamedDate

Turn = Callable[..., IndexItem]


@pytest.fixture
def friends(turn: Turn) -> Corpus:
    corpus = Corpus()
    corpus.upsert(
        [
            turn(1, "I planted tulips.", speaker="Ana"),
            turn(2, "Lovely!", speaker="Will"),
            turn(3, "Shall I water them?", speaker="Garden Bot", role=Role.ASSISTANT),
        ]
    )
    return corpus


def test_a_named_speaker_is_found_and_left_out_of_what_is_compared(friends: Corpus) -> None:
    query = analyse("Which flowers did ana's garden get?", friends)
    assert query.speakers == {"Ana"}
    assert query.embedding_text == "Which flowers did garden get?"
    assert query.terms == ("flower", "garden")


def test_a_common_word_names_a_speaker_only_as_it_is_written(friends: Corpus) -> None:
    assert analyse("What will bloom?", friends).speakers == frozenset()
    assert analyse("What did Will say of the garden bot?", friends).speakers == {"Will"}
    assert analyse("What did the Bot water?", friends).speakers == {"Garden Bot"}


def test_roles_are_not_names(turn: Turn) -> None:
    corpus = Corpus()
    corpus.upsert([turn(1, "Hello", speaker="user"), turn(2, "Hi", speaker="assistant")])
    query = analyse("Which user did the assistant greet?", corpus)
    assert query.speakers == frozenset()
    assert query.terms == ("user", "assist", "greet")


def test_a_question_about_nothing_but_a_speaker_keeps_the_name(friends: Corpus) -> None:
    query = analyse("Who is Ana?", friends)
    assert query.embedding_text == "Who is Ana?"
    assert query.terms == ("ana",)


def test_i_and_you_name_the_sides_of_a_chat_when_the_question_looks_back() -> None:
    corpus = Corpus()
    assert analyse("Where did I park?", corpus).roles == {Role.USER}
    assert analyse("Which book did you recommend?", corpus).roles == {Role.ASSISTANT}
    assert analyse("Can you recommend a book for me?", corpus).roles == frozenset()


def test_dates_and_the_wish_for_a_time_are_read() -> None:
    query = analyse("When in June 2023 did it rain?", Corpus())
    assert query.dates == (NamedDate(2023, 6, 0),)
    assert query.asks_for_time


def test_a_speaker_whose_turns_are_gone_is_an_ordinary_word(friends: Corpus, turn: Turn) -> None:
    friends.remove([(turn(1, "").kind, "s:1")])
    query = analyse("What did Ana plant?", friends)
    assert query.speakers == frozenset()
    assert query.terms == ("ana", "plant")

"""When something else was said before two questions, though the questions are the same."""

import pytest
from tests.cache.verifier.views import both_ways

from recollect_server.cache.verifier.history import other_history
from recollect_server.cache.verifier.reading import LONGEST

QUESTION = "What should I do?"
TALK = ("Who founded Lantern Hill?", "Two sisters founded the band in Porto in 1998.")


def other(one: tuple[str, ...], two: tuple[str, ...]) -> bool:
    return both_ways(other_history, (*one, QUESTION), (*two, QUESTION))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("My dog weighs 5 kg.", "My dog weighs 20 kg."),
        ("The pipe is 40 mm wide.", "The pipe is 40 inches wide."),
        ("I am allergic to penicillin.", "I am not allergic to penicillin."),
        ("I live in Texas.", "I live in Oregon."),
        ("I was born on May 4.", "I was born on August 4."),
        ("My baby has a fever.", "My grandfather has a fever."),
        ("I want to gain weight.", "I want to lose weight."),
        ("It broke before I dropped it.", "It broke after I dropped it."),
        ("I moved from Rome to Oslo.", "I moved from Oslo to Rome."),
        ("I write it in C++.", "I write it in C."),
        ("Yes, please.", "No, please."),
    ],
)
@pytest.mark.parametrize("before", [(), TALK], ids=["first", "later"])
@pytest.mark.parametrize("after", [(), ("May I ask something?", "Sure.")], ids=["last", "earlier"])
def test_the_user_said_something_else(one, two, before, after):
    assert other((*before, one, "Got it.", *after), (*before, two, "Got it.", *after))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Vienna.", "Lisbon."),
        ("It is safe.", "It is not safe."),
        ("That is 3.2 litres.", "That is 32 litres."),
        ("You might enjoy Middlemarch.", "You might enjoy Ulysses."),
    ],
)
def test_the_reply_was_another(one, two):
    assert other(("Which one?", one), ("Which one?", two))


def test_the_user_said_more():
    said = ("I am allergic to nuts.", "Noted.")
    assert other((*said, *TALK), TALK)
    assert other((*TALK, *said), TALK)
    assert other(said, ())


def test_the_same_was_said_in_another_order():
    one, two = ("Set x to 3.", "Done."), ("Set x to 5.", "Done.")
    assert other((*one, *two), (*two, *one))


def test_a_long_text_of_the_user_differs_in_a_word():
    text = "The committee met in the morning. " * (LONGEST // 30)
    assert other((text + "It agreed.", "Read."), (text + "It refused.", "Read."))
    assert not other((text + "It agreed.", "Read."), (text + "it agreed", "Read."))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("I live in Texas.", "i live in texas"),
        ("I live in Texas.", "Hi! I live in Texas."),
        ("What music did they play?", "What kind of music did Lantern Hill play?"),
        ("Where did they meet first?", "Where did the sisters first see each other?"),
        ("Tell me about them.", "Tell me about Lantern Hill."),
    ],
)
def test_the_same_may_be_said_in_other_words(one, two):
    assert not other((*TALK, one, "Got it."), (*TALK, two, "Got it."))


def test_a_greeting_says_nothing():
    assert not other(("Hi!", "Hello!"), ())
    assert not other(("Hi!", "Hello!", *TALK), TALK)

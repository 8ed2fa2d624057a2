"""When two questions are about different things, whatever was said before them."""

import pytest
from tests.cache.verifier.views import both_ways, view

from recollect_server.cache.verifier.rules import other_matter

TALK = (
    "Who founded the band Lantern Hill?",
    "Lantern Hill was founded in Porto in 1998 by two sisters, and made the album Slow River.",
)
BOTH = ("I have questions about Lisbon, Madrid, 3 and 4.", "Sure, ask me anything.")


def other(before: tuple[str, ...], one: str, two: str) -> bool:
    return both_ways(other_matter, (*before, one), (*before, two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("What is the weather in Lisbon?", "What is the weather in Madrid?"),
        ("what is the weather in lisbon?", "what is the weather in madrid?"),
        ("What is the way to platform 3?", "What is the way to platform 4?"),
        ("Turn on the lights in the kitchen.", "Turn on the lights in the garage."),
        ("How much did I spend this week?", "How much did I spend in Lisbon?"),
        ("Who was the first president?", "Who was the second president?"),
        ("Set an alarm for noon.", "Set an alarm for 7:30."),
        ("Who translated Ulysses?", "Who is the author of Ulysses?"),
    ],
)
@pytest.mark.parametrize("before", [BOTH, TALK], ids=["both named", "talk"])
def test_each_is_about_what_the_other_is_not(before, one, two):
    assert other(before, one, two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("What did Lantern Hill release?", "What did they release?"),
        ("What did Lantern Hill release?", "What did this band release?"),
        ("Was Slow River popular?", "Was the album popular?"),
        ("Was Lantern Hill popular in 1998?", "Was the band popular at that time?"),
        ("Did Lantern Hill receive a prize?", "Did they recieve a prize?"),
        ("Did Lantern Hill play any concerts in winter?", "And any concerts in winter?"),
    ],
)
def test_one_may_stand_for_what_the_other_says(one, two):
    assert not other(TALK, one, two)


def test_it_stands_for_nothing_that_was_not_said():
    assert other(("Hi", "Hello!"), "Was Slow River popular?", "Was the album popular?")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        # "The teacher", "the kitchen window" and "the old town" are things of their own.
        (
            "What was it that the teacher sold, the kitchen window or something in the old town?",
            "What was it that my manager booked, a table or something at the harbour?",
        ),
        # One word of many was said before.
        ("Was the harbour renovated?", "Was a Spanish museum in Lisbon painted white?"),
    ],
)
def test_a_phrase_stands_for_one_thing_that_was_said(one, two):
    before = (
        "My manager booked a table in Lisbon, and the teacher sold a window in the old town.",
        "And what happened at the harbour?",
    )
    assert other(before, one, two)


def test_a_question_that_is_complete_leaves_nothing_out():
    for one, two in (
        ("How's the weather in Tokyo?", "What was the weather in Tokyo yesterday?"),
        ("Who wrote Middlemarch?", "When was the sequel of Middlemarch written?"),
    ):
        assert other(("Hi", "Hello!"), one, two)


def test_a_number_is_no_negation():
    asked = view(*TALK, "Did it reach no. 5 in Porto?").reading
    assert asked.negations == 0
    assert view("Did it reach no city?").reading.negations == 1

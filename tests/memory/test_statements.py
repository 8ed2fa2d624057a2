"""What a statement is to another one, by rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect_server.memory.statements import Relation, normal_form, related, relation

TABLE = [
    ("I live in Paris.", "i live  in PARIS", Relation.SAME),
    ("The user lives in Paris.", "I live in Paris", Relation.SAME),
    ("I'm allergic to peanuts", "I am really allergic to peanuts!", Relation.SAME),
    ("I live in Berlin", "I live in Paris", Relation.CONTRADICTS),
    ("I moved to Berlin", "The user lives in Paris.", Relation.CONTRADICTS),
    ("I've moved to Berlin", "I live in Paris, near the Louvre", Relation.CONTRADICTS),
    ("I no longer live in Paris", "I live in Paris", Relation.CONTRADICTS),
    ("I don't eat meat anymore", "I eat meat", Relation.CONTRADICTS),
    ("I hate figs", "I love figs", Relation.CONTRADICTS),
    ("I don't like figs", "I like figs", Relation.CONTRADICTS),
    ("My name is Ada", "My name is Bob", Relation.CONTRADICTS),
    ("My favorite tea is oolong", "My favourite tea is sencha", Relation.CONTRADICTS),
    ("I am 35 years old", "My age is 34", Relation.CONTRADICTS),
    ("I am married", "I am single", Relation.CONTRADICTS),
    ("I work at Initech", "I work for Acme", Relation.CONTRADICTS),
    ("My sister Ada lives in Porto", "My sister Ada lives in Lisbon", Relation.CONTRADICTS),
    ("My wife works at Acme", "My wife works at Initech", Relation.CONTRADICTS),
    ("I live in Paris with my wife", "I live in Paris", Relation.MORE),
    ("I live in Paris", "I live in Paris with my wife", Relation.LESS),
    ("I like tea and coffee", "I like tea", Relation.MORE),
    # What may hold at once.
    ("My sister Ada lives in Porto", "My sister Eve lives in Lisbon", Relation.UNRELATED),
    ("My friend lives in Porto", "My friend lives in Lisbon", Relation.UNRELATED),
    ("I live in a small flat", "I live in Paris", Relation.UNRELATED),
    ("I work on a thesis", "I work at Acme", Relation.UNRELATED),
    ("I like apple pie", "I like apple", Relation.UNRELATED),
    ("I like tea", "I like coffee", Relation.UNRELATED),
    ("I like C++", "I like C", Relation.UNRELATED),
    ("I like C#", "I like C++", Relation.UNRELATED),
    ("I have 2 cats", "I have 3 cats", Relation.UNRELATED),
    ("My brother is a nurse", "My brother is Tom", Relation.UNRELATED),
    ("My laptop is broken", "My laptop is a ThinkPad", Relation.UNRELATED),
    ("I lived in Paris", "I live in Berlin", Relation.UNRELATED),
    ("I like tea", "I like tea, but not in the evening", Relation.UNRELATED),
    ("I drive to work with music", "I drive to work, not with music", Relation.UNRELATED),
    # Other languages: the same or nothing.
    ("Ich wohne in Berlin.", "Ich wohne in Berlin", Relation.SAME),
    ("Ich wohne in Berlin.", "Ich wohne in Paris.", Relation.UNRELATED),
    ("私は東京に住んでいます。", "私は東京に住んでいます", Relation.SAME),
    ("私は東京に住んでいます", "私は大阪に住んでいます", Relation.UNRELATED),
]


@pytest.mark.parametrize(("new", "held", "expected"), TABLE)
def test_rules_speak_where_words_leave_no_doubt(new, held, expected):
    assert relation(new, held) is expected


statements = st.lists(
    st.sampled_from(
        "i my the user live lives in Paris Berlin work at for Acme not no longer never like love "
        "hate name is am be married 34 years old with and , favourite tea wife sister Ada moved to "
        "don't C++ 東京 🙂".split()
    ),
    max_size=9,
).map(" ".join) | st.text(max_size=40)  # fmt: skip


@given(statements)
def test_a_statement_is_the_same_as_itself_in_any_dress(text):
    assert relation(text, text) is Relation.SAME
    dressed = "  " + "  ".join(text.swapcase().split()) + " . "
    if any(c.isalnum() for c in text) and text.isascii():
        assert relation(dressed, text) is Relation.SAME
        assert normal_form(dressed) == normal_form(text)


OPPOSITE = {Relation.MORE: Relation.LESS, Relation.LESS: Relation.MORE}


@given(statements, statements)
def test_relations_hold_both_ways_and_never_fail(one, other):
    there, back = relation(one, other), relation(other, one)
    assert back is OPPOSITE.get(there, there)


@given(statements, statements)
def test_sharing_a_topic_holds_both_ways(one, other):
    assert related(one, other) == related(other, one)

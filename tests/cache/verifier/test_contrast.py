"""When two messages with the same content words say something else."""

import pytest

from recollect_server.cache.verifier.contrast import contrast
from recollect_server.cache.verifier.reading import read, same_text


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("What is 12 + 4?", "What is 12 - 4?"),
        ("How do I learn C++?", "How do I learn C#?"),
        ("How do I learn C?", "How do I learn C#?"),
        ("What costs $30?", "What costs €30?"),
        ("Is -3 even?", "Is 3 even?"),
        ("What is 10² in words?", "What is 102 in words?"),
        ("What does 👍 mean?", "What does 👎 mean?"),
        ("What is my name?", "What is your name?"),
        ("When did Rome fall?", "Why did Rome fall?"),
        ("Is the museum free?", "Was the museum free?"),
        ("Can I drink the water?", "Should I drink the water?"),
        ("What goes with milk?", "What goes after milk?"),
        ("Can I renew it?", "Can I not renew it?"),
    ],
)
def test_what_changes_a_message(one, two):
    assert contrast(read(one), read(two))
    assert contrast(read(two), read(one))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("What is the weather in Oslo?", "what's the weather like in oslo"),
        ("What is the weather in Oslo?", "Please tell me what the weather in Oslo is!"),
        ("What is 5% of 80?", "What is 5 percent of 80?"),
        ("When does it open?", "When will it open?"),
        ("How can I fly to Rome?", "How do I fly to Rome?"),
        ("Did they meet in 1998?", "Where did the band play?"),
    ],
)
def test_what_does_not(one, two):
    assert not contrast(read(one), read(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("Сколько будет 5 + 3?", "Сколько будет 5 - 3?"),
        ("Что такое C++?", "Что такое C#?"),
        ("气温-5度穿什么?", "气温5度穿什么?"),
        ("¿Cuántos años tiene?", "¿Cuántos anos tiene?"),
        ("3.5公斤", "35公斤"),
        ("5% 公斤", "5 公斤"),
    ],
)
def test_texts_in_any_script_are_the_same_only_with_the_same_signs(one, two):
    assert not same_text(one, two)
    assert same_text(one, one.upper().replace("?", "!"))

"""The verifier that is shipped, on real vectors of the bundled embedder."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import pytest_asyncio

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.verifier import candidate_vector, load, window_text
from recollect_server.cache.verifier.features import NAMES
from recollect_server.memory.model import Role
from recollect_server.models.minilm import MiniLmEmbedder

DEFAULT = 0.01


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def say():
    embedder = MiniLmEmbedder(threads=1)

    async def conversation(*texts: str) -> Conversation:
        roles = [(Role.USER, Role.ASSISTANT)[place % 2] for place in range(len(texts))]
        return Conversation(tuple(roles), texts, await embedder.embed(texts), embedder.model)

    yield conversation
    await embedder.close()


pytestmark = pytest.mark.asyncio(loop_scope="module")

TALK = (
    "Can you recommend a museum in Lisbon?",
    "The National Tile Museum shows five centuries of painted tiles in a former convent.",
)


def hits(asked: Conversation, stored: Conversation, rate: float = DEFAULT) -> bool:
    verifier = load()
    return bool(verifier.probabilities(asked, [stored])[0] >= verifier.threshold(rate))


async def test_a_question_that_names_what_the_history_says_hits(say):
    asked = await say(*TALK, "When does the National Tile Museum open?")
    stored = await say(*TALK, "When does it open?")
    assert hits(asked, stored, 0.1)


async def test_the_same_question_in_another_conversation_misses(say):
    other = (
        "Which bakery near the station is good?",
        "The old mill bakery sells rye bread and cinnamon rolls from six in the morning.",
    )
    assert not hits(await say(*other, "When does it open?"), await say(*TALK, "When does it open?"))


GREETING = ("Hi", "Hello! I am the assistant of your bank. How can I help you today?")
FORMS = [
    ("Question {}: what do you know about topic {}?", "3 17 34 35"),
    ("What is the status of order {}?", "ORD-1234 ORD-1235 A-77 48213"),
    ("How do I upgrade to version {}?", "2.3 2.4 3.11 v4"),
    ("What is the weather like in {}?", "Lisbon Madrid Oslo Tokyo"),
    ("How do I cook {}?", "rice pasta salmon eggs"),
    ("Am I free on {}?", "Monday Tuesday Sunday"),
    ("How much did I spend in {}?", "January May June"),
    ("What does error {} mean?", "404 500 0x80070005 0x80070057"),
    ("What are the {} of electric cars?", "advantages disadvantages parts"),
    ("What is the {} of Norway?", "capital population currency"),
    ("Does {} like tea?", "Bob Carol Dora"),
    ("Turn on the lights in the {}.", "kitchen bedroom garage"),
]


@pytest.mark.parametrize("before", [(), GREETING, TALK], ids=["alone", "greeting", "talk"])
@pytest.mark.parametrize(("form", "fillings"), FORMS)
async def test_the_same_form_about_something_else_misses(say, before, form, fillings):
    asked = {word: form.replace("{}", word) for word in fillings.split()}
    stored = {word: await say(*before, text) for word, text in asked.items()}
    reply = "Here is some answer that goes on for a while."
    for one, other in itertools.permutations(asked, 2):
        assert not hits(stored[one], stored[other]), (one, other)
        # The other was asked and answered just before.
        after = await say(*before, asked[other], reply, asked[one])
        assert not hits(after, stored[other]), (one, "after", other)


@pytest.mark.parametrize("form", [form for form, _ in FORMS])
async def test_the_same_form_about_the_same_hits(say, form):
    asked = form.replace("{}", "Lisbon")
    assert hits(await say(*GREETING, asked), await say(*GREETING, asked.lower()))


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("When does it open?", "How do I get there by tram?"),
        ("Who painted them?", "When does it open?"),
        ("Is there a cafe inside?", "Who founded it?"),
        ("What does a ticket cost?", "Which tiles are the oldest?"),
    ],
)
async def test_another_question_in_the_same_conversation_misses(say, asked, stored):
    assert not hits(await say(*TALK, asked), await say(*TALK, stored))


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("How far is 5 miles in kilometers?", "How far is 6 miles in kilometers?"),
        ("What is the capital of France?", "What is the capital of Spain?"),
        ("How do I increase the volume?", "How do I decrease the volume?"),
        ("Which foods are safe for dogs?", "Which foods are not safe for dogs?"),
        ("How do I sort a list in Python?", "How do I sort a list in Python without sorted?"),
        ("Is Texas bigger than Alaska?", "Is Alaska bigger than Texas?"),
        ("What was his style?", "What was his style"),
    ],
)
async def test_alone_a_small_change_never_hits(say, asked, stored):
    assert load().probabilities(await say(asked), [await say(stored)])[0] < 0.9
    assert not hits(await say(asked), await say(stored))


@pytest.mark.parametrize(
    ("text", "changed"),
    [
        ("法国的首都是哪里", "德国的首都是哪里"),
        ("Какая столица Франции", "Какая столица Италии"),
        ("ما هي عاصمة فرنسا", "ما هي عاصمة المانيا"),
        ("Wie weit ist es von Hamburg nach Bremen", "Wie weit ist es von Bremen nach Hamburg"),
        ("東京の人口は 5 年前", "東京の人口は 6 年前"),
    ],
)
async def test_in_other_languages_only_the_same_words_hit(say, text, changed):
    assert not hits(await say(changed), await say(text), 0.5)
    assert hits(await say(text + "?"), await say(text))
    assert not hits(await say(*TALK, text), await say(TALK[0], "Other words.", text), 0.5)


async def test_with_another_models_vectors_only_the_same_words_hit(say):
    asked, stored = await say(*TALK, "When does it open?"), await say(*TALK, "When does it open")
    reworded = await say(*TALK, "When does the National Tile Museum open?")
    other = [replace(each, model="other") for each in (asked, stored, reworded)]
    assert hits(other[0], other[1])
    assert not hits(other[2], other[1], 0.5)
    assert dict(load().explain(other[0], other[1]))["only_same_words"] == 1.0


async def test_an_explanation_names_every_feature(say):
    explained = dict(load().explain(await say("Hello there"), await say(*TALK, "And then?")))
    assert set(NAMES) < explained.keys()
    assert explained["only_same_words"] == 0.0


async def test_a_smaller_rate_never_lets_more_through(say):
    thresholds = [load().threshold(rate) for rate in (0.0, 0.005, 0.01, 0.05, 0.5)]
    assert thresholds == sorted(thresholds, reverse=True)


async def test_nothing_stored_gives_nothing(say):
    assert load().probabilities(await say("Hello"), []).shape == (0,)


async def test_the_candidate_vector_adds_up_the_three_similarities(say):
    a, b = await say(*TALK, "When does it open?"), await say(*TALK, "Is it free?")
    first, second = candidate_vector(a), candidate_vector(b)
    assert first.shape == (3 * 384,)
    assert first.dtype == np.float32
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert first @ second == pytest.approx((a.vectors[-1] @ b.vectors[-1] + 1.5) / 2.5, abs=1e-4)


async def test_the_window_is_cut_and_joined():
    texts = [str(number) * 300 for number in range(8)]
    text = window_text(texts)
    assert text.split(" | ") == [str(number) * 200 for number in range(2, 8)]


async def test_of_a_long_question_only_the_same_words_hit(say):
    text = "Some distinct words with numbers like 12 and 13 fill a page here. " * 5_000
    asked = await say(*TALK, text + "Is it cheap?")
    assert hits(asked, await say(*TALK, text.lower() + "is it cheap"))
    assert not hits(asked, await say(*TALK, text + "Is it free?"))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("My dog weighs 5 kg.", "My dog weighs 20 kg."),
        ("I am allergic to penicillin.", "I am not allergic to penicillin."),
        ("I live in Texas.", "I live in Oregon."),
    ],
)
async def test_the_same_question_after_another_fact_misses(say, one, two):
    said = "Got it. How can I help?", "What should I do?"
    assert hits(await say(one, *said), await say(one.lower(), *said))
    assert not hits(await say(one, *said), await say(two, *said))

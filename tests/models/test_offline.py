"""The provider without a model."""

from datetime import UTC, datetime

import pytest

from recollect_server.chat.model import Completion, Delta
from recollect_server.memory.model import FactKind, Message, PromptMessage, Role, TextPart
from recollect_server.memory.prompt import ModelParameters, Prompt
from recollect_server.models.offline import OfflineModel, VerbatimExtractor

NOW = datetime(2026, 5, 3, tzinfo=UTC)

SYSTEM = "\n".join(
    [
        "<memory>",
        "- 2026-05-01: allergic to peanuts &amp; cashews",
        "- 2026-05-02, ada: the sister lives in Lisbon",
        "</memory>",
    ]
)


def _prompt(question: str) -> Prompt:
    messages = (PromptMessage(Role.USER, (TextPart(question),)),)
    return Prompt("offline", SYSTEM, (), ModelParameters(), messages)


async def _all(question: str):
    return [event async for event in OfflineModel().stream(_prompt(question))]


async def test_it_says_what_it_is_and_quotes_what_fits():
    *deltas, end = await _all("Am I allergic to anything?")
    text = "".join(d.text for d in deltas)
    assert isinstance(end, Completion)
    assert end.parts == (TextPart(text),)
    assert "No language model is configured" in text
    assert "allergic to peanuts & cashews" in text
    assert "Lisbon" not in text


async def test_it_says_so_when_memory_holds_nothing():
    assert "It holds nothing on this." in (await _all("zebra?"))[-1].parts[0].text


async def test_it_streams_and_repeats_itself():
    first, second = await _all("my sister?"), await _all("my sister?")
    assert first == second
    assert sum(isinstance(event, Delta) for event in first) > 2
    assert first[-1].usage.output_tokens > 0
    assert OfflineModel().cost_usd(first[-1]) == 0.0


def _said(text: str, role: Role = Role.USER) -> Message:
    return Message("m", "s", 3, role, (TextPart(text),), "", NOW, NOW, {}, "", 1)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("I live in Lisbon.", FactKind.PROFILE),
        ("Well, I'm a nurse", FactKind.PROFILE),
        ("My sister Ada lives in Porto", FactKind.PROFILE),
        ("I prefer window seats", FactKind.PREFERENCE),
        ("I don\u2019t like figs!", FactKind.PREFERENCE),
        ("My favorite tea is oolong", FactKind.PREFERENCE),
        ("I use Neovim on Arch 6.1", FactKind.ENVIRONMENT),
        ("I have two cats", FactKind.ENVIRONMENT),
        ("I'm building a boat", FactKind.PROJECT),
        ("My laptop is broken", FactKind.ISSUE),
        ("I can't connect to the office printer", FactKind.ISSUE),
    ],
)
async def test_what_users_say_of_themselves_is_kept_word_for_word_with_its_kind(text, kind):
    (fact,) = await VerbatimExtractor().extract([_said(f"Hello!\n{text}\nWhat now?")])
    assert fact.text == text.removeprefix("Well, ")
    assert (fact.kind, fact.sequences, fact.said_at) == (kind, (3,), NOW)


@pytest.mark.parametrize(
    "text",
    [
        "I like what you did?",
        "I have a question.",
        "I'm sorry about that.",
        "I don't know what that means.",
        "I need you to rewrite this.",
        "You live in Lisbon.",
        "Ich wohne in Lissabon.",
        "Je suis infirmière et j'habite à Paris.",
        "私は東京に住んでいます。",
        "I " + "really " * 100 + "like it",
    ],
)
async def test_what_says_nothing_lasting_or_is_of_another_language_is_left(text):
    assert await VerbatimExtractor().extract([_said(text)]) == ()


async def test_a_pasted_text_is_no_profile_and_only_users_are_read():
    flood = " ".join(f"I own boat number {n}." for n in range(50))
    assert len(await VerbatimExtractor().extract([_said(flood)])) == 5
    assert await VerbatimExtractor().extract([_said("I live in Oslo.", Role.ASSISTANT)]) == ()

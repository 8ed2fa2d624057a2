"""The provider without a model."""

from recollect_server.chat.model import Completion, Delta
from recollect_server.memory.model import PromptMessage, Role, TextPart
from recollect_server.memory.prompt import ModelParameters, Prompt
from recollect_server.models.offline import OfflineModel

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

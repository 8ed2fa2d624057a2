"""A provider's outage costs its first callers time and the others none; another model answers."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from recollect_server.chat.model import BlockKind, Completion, Delta, FinishReason, ModelEvent
from recollect_server.errors import FailedPrecondition, Reason, ResourceExhausted, Unavailable
from recollect_server.memory.model import PromptMessage, Role, TextPart
from recollect_server.memory.prompt import ModelParameters, Prompt, Usage
from recollect_server.models.guarded import (
    FAILURES_TO_OPEN,
    FIRST_OPEN_SECONDS,
    PROBE_SECONDS,
    Breaker,
    GuardedModel,
)

PROMPT = Prompt("m", "", (), ModelParameters(), (PromptMessage(Role.USER, (TextPart("hi"),)),))
DOWN = Unavailable(Reason.MODEL_UNAVAILABLE, "down", 1.0)
LIMITED = ResourceExhausted(Reason.MODEL_RATE_LIMITED, "limited", 9.0)


class Model:
    """A provider that does what it is told; real ones are in `test_chat_models`."""

    name = "stub"
    default_model = "m"

    def __init__(self, error: Exception | None = None, cut: bool = False) -> None:
        self.error = error
        self.cut = cut
        self.asked: list[str] = []

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        self.asked.append(prompt.model)
        if self.error is not None and not self.cut:
            raise self.error
        yield Delta(0, BlockKind.TEXT, "x")
        if self.error is not None:
            raise self.error
        yield Completion((TextPart("x"),), FinishReason.STOP, Usage(1, 1), prompt.model)

    def cost_usd(self, completion: Completion) -> float:
        return 1.0 if completion.model in self.asked else 0.0

    async def close(self) -> None:
        self.asked.append("closed")


async def _all(model) -> list[ModelEvent]:
    async with aclosing(model.stream(PROMPT)) as events:
        return [event async for event in events]


async def test_after_some_failures_calls_are_refused_without_being_made():
    model = Model(DOWN)
    guarded = GuardedModel(model)
    for _ in range(FAILURES_TO_OPEN):
        with pytest.raises(Unavailable):
            await _all(guarded)
    with pytest.raises(Unavailable) as caught:
        await _all(guarded)
    assert len(model.asked) == FAILURES_TO_OPEN
    assert 0 < caught.value.retry_after <= FIRST_OPEN_SECONDS


def _opened(now: float) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker.check(now)
        breaker.failed(now)
    return breaker


def test_after_the_pause_one_call_tries_and_its_result_decides():
    breaker = _opened(100.0)
    with pytest.raises(Unavailable):
        breaker.check(100.0 + FIRST_OPEN_SECONDS - 0.1)
    later = 100.0 + FIRST_OPEN_SECONDS
    breaker.check(later)
    with pytest.raises(Unavailable):
        breaker.check(later)
    breaker.failed(later)
    with pytest.raises(Unavailable) as caught:
        breaker.check(later)
    assert caught.value.retry_after == 2 * FIRST_OPEN_SECONDS
    breaker.check(later + 2 * FIRST_OPEN_SECONDS)
    breaker.succeeded()
    breaker.check(later + 2 * FIRST_OPEN_SECONDS)


def test_a_probe_that_is_left_or_never_comes_back_does_not_close_the_way():
    breaker = _opened(0.0)
    breaker.check(10.0)
    breaker.left()
    breaker.check(10.0)
    with pytest.raises(Unavailable):
        breaker.check(11.0)
    breaker.check(10.0 + PROBE_SECONDS)


async def test_a_limit_or_a_refusal_does_not_count_as_an_outage():
    for error in (LIMITED, FailedPrecondition(Reason.MODEL_CREDENTIAL, "key")):
        model = Model(error)
        guarded = GuardedModel(model)
        for _ in range(2 * FAILURES_TO_OPEN):
            with pytest.raises(type(error)):
                await _all(guarded)
        assert len(model.asked) == 2 * FAILURES_TO_OPEN


@pytest.mark.parametrize("error", [DOWN, LIMITED])
async def test_the_fallback_answers_before_the_first_event(error):
    model, other = Model(error), Model()
    guarded = GuardedModel(model, (other, "small"))
    events = await _all(guarded)
    assert events[-1].model == "small"
    assert guarded.cost_usd(events[-1]) == 1.0
    assert (model.asked, other.asked) == (["m"], ["small"])
    await guarded.close()
    assert "closed" in other.asked


async def test_the_fallback_does_not_answer_after_the_first_event_or_for_a_wrong_request():
    other = Model()
    for model in (Model(DOWN, cut=True), Model(FailedPrecondition(Reason.MODEL_CREDENTIAL, "k"))):
        with pytest.raises(type(model.error)):
            await _all(GuardedModel(model, (other, "small")))
    assert other.asked == []

"""Asking a provider's small model for a short text."""

from collections.abc import Sequence
from contextlib import aclosing

from recollect_server.chat.model import Completion, FinishReason
from recollect_server.chat.ports import ChatModel
from recollect_server.memory.jobs import BadModelAnswer
from recollect_server.memory.model import Message, PromptMessage, Role, TextPart, plain_text
from recollect_server.memory.prompt import ModelParameters, Prompt

LONGEST_MESSAGE = 8000
"""Characters of one message that are shown to the model; the rest is left out, and marked."""


async def ask(model: ChatModel, name: str, system: str, text: str, most_tokens: int) -> str:
    """Return the model's answer to one message.

    Args:
        name: of the model, as the provider spells it.

    Raises:
        Unavailable, ResourceExhausted: the model does not answer now.
        BadModelAnswer: it answered with no text, or refused.
    """
    prompt = Prompt(
        model=name,
        system=system,
        tools=(),
        parameters=ModelParameters(max_tokens=most_tokens),
        messages=(PromptMessage(Role.USER, (TextPart(text),)),),
    )
    completion: Completion | None = None
    async with aclosing(model.stream(prompt)) as events:
        async for event in events:
            if isinstance(event, Completion):
                completion = event
    finished = (FinishReason.STOP, FinishReason.MAX_TOKENS)
    if completion is None or completion.finish_reason not in finished:
        raise BadModelAnswer("the model did not finish its answer")
    answer = plain_text(completion.parts).strip()
    if not answer:
        raise BadModelAnswer("the model answered with no text")
    return answer


def transcript(messages: Sequence[Message]) -> str:
    """Return messages as numbered lines, each with its date and speaker."""
    return "\n".join(_line(message) for message in messages)


def _line(message: Message) -> str:
    speaker = message.author_name or message.role.name.lower()
    text = message.text
    if len(text) > LONGEST_MESSAGE:
        text = f"{text[:LONGEST_MESSAGE]} [...]"
    return fenced(f"{message.sequence}. [{message.time:%Y-%m-%d}] {speaker}: {text}")


def fenced(text: str) -> str:
    """Keep data from ending the tags around it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

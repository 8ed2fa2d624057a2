"""Answers by quoting: deterministic, for development and for servers without a key."""

import html
import re
from collections.abc import AsyncGenerator, Iterator

from recollect_server.chat.model import (
    BlockKind,
    Completion,
    Delta,
    FinishReason,
    ModelEvent,
)
from recollect_server.memory.model import Role, TextPart, plain_text
from recollect_server.memory.prompt import Prompt, Usage
from recollect_server.memory.tokens import estimate_message, estimate_text

HONEST = "No language model is configured, so this answer only quotes what memory holds."
NOTHING = "It holds nothing on this."
MOST_QUOTES = 3
WORDS_PER_DELTA = 4
SHORTEST_WORD = 4
"""Shorter words are left out of the comparison: most of them say nothing of the topic."""

_WORD = re.compile(rf"\w{{{SHORTEST_WORD},}}")


class OfflineModel:
    """See the module. Implements `chat.ports.ChatModel`."""

    name = "offline"
    default_model = "offline"

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Stream the reply; never fails."""
        reply = _reply(prompt)
        for piece in _pieces(reply):
            yield Delta(0, BlockKind.TEXT, piece)
        yield Completion(
            parts=(TextPart(reply),),
            finish_reason=FinishReason.STOP,
            usage=Usage(
                input_tokens=estimate_text(prompt.system)
                + estimate_text(prompt.memory)
                + sum(estimate_message(m.parts) for m in prompt.messages),
                output_tokens=estimate_text(reply),
            ),
            model=self.default_model,
        )

    def cost_usd(self, completion: Completion) -> float:
        """Nothing is paid for it."""
        return 0.0

    async def close(self) -> None:
        """Nothing is held."""


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower()))


def _candidates(prompt: Prompt) -> Iterator[str]:
    """Yield what may be quoted: recalled lines, then earlier messages but this provider's own."""
    for line in (*prompt.system.splitlines(), *prompt.memory.splitlines()):
        if line.startswith("- "):
            yield html.unescape(line.removeprefix("- "))
    for message in prompt.messages[:-1]:
        text = plain_text(message.parts)
        if message.role is Role.USER and text:
            yield text


def _reply(prompt: Prompt) -> str:
    question = _words(plain_text(prompt.messages[-1].parts))
    scored = [
        (len(question & _words(line)), -position, line)
        for position, line in enumerate(_candidates(prompt))
        if HONEST not in line
    ]
    best = [line for shared, _, line in sorted(scored, reverse=True) if shared][:MOST_QUOTES]
    quotes = [f"- {line}" for line in dict.fromkeys(best)]
    return "\n".join([HONEST, *(quotes or [NOTHING])])


def _pieces(text: str) -> Iterator[str]:
    yield from re.findall(rf"(?:\S+\s*){{1,{WORDS_PER_DELTA}}}", text)

"""Replies in pieces: collected from a model's stream, and cut from a stored answer."""

import re
from collections.abc import Iterable, Iterator
from typing import Self

from recollect_server.chat.model import (
    BlockKind,
    Completion,
    Delta,
    FinishReason,
    ModelEvent,
    ToolUse,
)
from recollect_server.chat.turn import ChatEvent
from recollect_server.memory.model import (
    Part,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)
from recollect_server.memory.prompt import Usage

WORDS_PER_DELTA = 8
"""How a stored answer is streamed: a few words at a time, as models do."""

_CHUNK = re.compile(rf"(?:\S+\s*|\s+){{1,{WORDS_PER_DELTA}}}")


class PartialReply:
    """What a model has said so far."""

    def __init__(self) -> None:
        self._blocks: dict[int, tuple[BlockKind, list[str]]] = {}
        self._calls: dict[int, ToolUse] = {}

    @property
    def started(self) -> bool:
        """Whether anything was said."""
        return bool(self._blocks or self._calls)

    @classmethod
    def of(cls, events: Iterable[ChatEvent]) -> Self:
        """Return what the events of a turn say."""
        said = cls()
        for event in events:
            if isinstance(event.happening, Delta | ToolUse):
                said.add(event.happening)
        return said

    def add(self, event: ModelEvent) -> None:
        """Take in the next event of a model's stream."""
        if isinstance(event, Delta):
            self._blocks.setdefault(event.block, (event.kind, []))[1].append(event.text)
        elif isinstance(event, ToolUse):
            self._calls[event.block] = event

    def parts(self) -> tuple[Part, ...]:
        """Return the text and reasoning so far, without tool calls: one cut short cannot run."""
        parts: list[Part] = []
        for _, (kind, pieces) in sorted(self._blocks.items()):
            text = "".join(pieces)
            if kind is BlockKind.TEXT and text:
                parts.append(TextPart(text))
            elif kind is BlockKind.THINKING and text:
                parts.append(ThinkingPart(text))
        return tuple(parts)


def deltas_of(parts: tuple[Part, ...]) -> Iterator[Delta | ToolUse]:
    """Yield a stored answer in pieces that add up to it exactly."""
    for block, part in enumerate(parts):
        match part:
            case TextPart(text):
                for chunk in _CHUNK.findall(text):
                    yield Delta(block, BlockKind.TEXT, chunk)
            case ThinkingPart(text):
                yield Delta(block, BlockKind.THINKING, text)
            case ToolCallPart(call_id, name, input_json):
                yield ToolUse(block, call_id, name)
                yield Delta(block, BlockKind.TOOL_INPUT, input_json)
            case ToolResultPart():
                raise ValueError("a reply holds no tool result")


def completion_of(parts: tuple[Part, ...], model: str) -> Completion:
    """Return a stored answer as the end of a stream: no tokens were used for it."""
    return Completion(parts, FinishReason.STOP, Usage(), model)

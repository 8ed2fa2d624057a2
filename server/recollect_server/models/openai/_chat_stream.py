"""The chunks of the chat completions API as the domain's events, and the whole reply at the end."""

from collections.abc import Iterator
from typing import Any

from recollect_server.chat.model import (
    BlockKind,
    Completion,
    Delta,
    FinishReason,
    ModelEvent,
    ToolUse,
)
from recollect_server.memory.model import Part, TextPart, ThinkingPart, ToolCallPart
from recollect_server.memory.prompt import Usage, is_json_object

_FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.MAX_TOKENS,
    "tool_calls": FinishReason.TOOL_USE,
    "function_call": FinishReason.TOOL_USE,
    "content_filter": FinishReason.REFUSAL,
}


class ChatReply:
    """A reply while it comes in. Its blocks are numbered as they begin."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._blocks: dict[str, int] = {}
        self._kinds: list[BlockKind] = []
        self._text: list[list[str]] = []
        self._calls: dict[int, tuple[str, str]] = {}
        self._usage = Usage()
        self._refused = False
        self._finish_reason = ""

    @property
    def complete(self) -> bool:
        """Whether the end of the reply has come."""
        return bool(self._finish_reason)

    def take(self, chunk: Any) -> Iterator[ModelEvent]:
        """Yield what a chunk adds."""
        self._model = chunk.model or self._model
        if chunk.usage is not None:
            self._usage = _usage(chunk.usage)
        for choice in chunk.choices or ():
            if choice.delta is not None:
                yield from self._delta(choice.delta)
            self._finish_reason = choice.finish_reason or self._finish_reason

    def _delta(self, delta: Any) -> Iterator[ModelEvent]:
        # Servers that stream reasoning call it by one of these names; OpenAI's own keeps it.
        reasoning = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
        if isinstance(reasoning, str) and reasoning:
            yield self._add("thinking", BlockKind.THINKING, reasoning)
        if delta.content:
            yield self._add("text", BlockKind.TEXT, delta.content)
        if delta.refusal:
            self._refused = True
            yield self._add("text", BlockKind.TEXT, delta.refusal)
        for call in delta.tool_calls or ():
            key = f"call {call.index}"
            if key not in self._blocks:
                block = self._block(key, BlockKind.TOOL_INPUT)
                self._calls[block] = (call.id or "", call.function.name or "")
                yield ToolUse(block, *self._calls[block])
            if call.function is not None and call.function.arguments:
                yield self._add(key, BlockKind.TOOL_INPUT, call.function.arguments)

    def _block(self, key: str, kind: BlockKind) -> int:
        if key not in self._blocks:
            self._blocks[key] = len(self._kinds)
            self._kinds.append(kind)
            self._text.append([])
        return self._blocks[key]

    def _add(self, key: str, kind: BlockKind, text: str) -> Delta:
        block = self._block(key, kind)
        self._text[block].append(text)
        return Delta(block, kind, text)

    def completion(self) -> Completion:
        """Return the whole reply."""
        reason = _FINISH.get(self._finish_reason, FinishReason.STOP)
        return Completion(
            parts=tuple(self._parts()),
            finish_reason=FinishReason.REFUSAL if self._refused else reason,
            usage=self._usage,
            model=self._model,
        )

    def _parts(self) -> Iterator[Part]:
        for block, kind in enumerate(self._kinds):
            text = "".join(self._text[block])
            if kind is BlockKind.TEXT:
                yield TextPart(text)
            elif kind is BlockKind.THINKING:
                yield ThinkingPart(text)
            elif is_json_object(text or "{}"):
                # One that was cut short by max_tokens cannot be run, nor sent back.
                yield ToolCallPart(*self._calls[block], text or "{}")


def _usage(usage: Any) -> Usage:
    """Return the tokens; the API counts cached ones among the prompt's."""
    details = usage.prompt_tokens_details
    cached = (details.cached_tokens if details is not None else 0) or 0
    return Usage(
        input_tokens=max((usage.prompt_tokens or 0) - cached, 0),
        output_tokens=usage.completion_tokens or 0,
        cache_read_tokens=cached,
    )

"""The events of the Messages API as the domain's, and the whole reply at the end."""

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
    "end_turn": FinishReason.STOP,
    "stop_sequence": FinishReason.STOP,
    "max_tokens": FinishReason.MAX_TOKENS,
    "model_context_window_exceeded": FinishReason.MAX_TOKENS,
    "tool_use": FinishReason.TOOL_USE,
    "refusal": FinishReason.REFUSAL,
}


class Reply:
    """A reply while it comes in."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._blocks: dict[int, Any] = {}
        self._text: dict[int, list[str]] = {}
        self._signature: dict[int, str] = {}
        self._input: Any = None
        self._output_tokens = 0
        self._stop_reason = ""
        self.complete = False

    def take(self, event: Any) -> Iterator[ModelEvent]:
        """Yield what an event of the API adds."""
        match event.type:
            case "message_start":
                self._model = event.message.model
                self._input = event.message.usage
            case "content_block_start":
                yield from self._start(event.index, event.content_block)
            case "content_block_delta":
                yield from self._delta(event.index, event.delta)
            case "message_delta":
                self._stop_reason = event.delta.stop_reason or self._stop_reason
                self._output_tokens = event.usage.output_tokens
            case "message_stop":
                self.complete = True

    def _start(self, index: int, block: Any) -> Iterator[ModelEvent]:
        self._blocks[index] = block
        self._text[index] = []
        if block.type == "tool_use":
            yield ToolUse(index, block.id, block.name)
        elif block.type == "text" and block.text:
            yield self._add(index, BlockKind.TEXT, block.text)

    def _delta(self, index: int, delta: Any) -> Iterator[ModelEvent]:
        match delta.type:
            case "text_delta":
                yield self._add(index, BlockKind.TEXT, delta.text)
            case "thinking_delta":
                yield self._add(index, BlockKind.THINKING, delta.thinking)
            case "input_json_delta" if delta.partial_json:
                yield self._add(index, BlockKind.TOOL_INPUT, delta.partial_json)
            case "signature_delta":
                self._signature[index] = delta.signature

    def _add(self, index: int, kind: BlockKind, text: str) -> Delta:
        self._text[index].append(text)
        return Delta(index, kind, text)

    def completion(self) -> Completion:
        """Return the whole reply."""
        return Completion(
            parts=tuple(self._parts()),
            finish_reason=_FINISH.get(self._stop_reason, FinishReason.STOP),
            usage=Usage(
                input_tokens=getattr(self._input, "input_tokens", 0) or 0,
                output_tokens=self._output_tokens,
                cache_read_tokens=getattr(self._input, "cache_read_input_tokens", 0) or 0,
                cache_write_tokens=getattr(self._input, "cache_creation_input_tokens", 0) or 0,
            ),
            model=self._model,
        )

    def _parts(self) -> Iterator[Part]:
        for index, block in sorted(self._blocks.items()):
            text = "".join(self._text[index])
            if block.type == "text" and text:
                yield TextPart(text)
            elif block.type == "thinking":
                yield ThinkingPart(text, self._signature.get(index, ""))
            elif block.type == "tool_use" and is_json_object(text or "{}"):
                # One that was cut short by max_tokens cannot be run, nor sent back.
                yield ToolCallPart(block.id, block.name, text or "{}")

"""What every provider's conversations need: calls that have results, and where the question is."""

from collections.abc import Sequence

from recollect_server.memory.model import (
    PromptMessage,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)


def answered_calls(messages: Sequence[PromptMessage]) -> set[str]:
    """Return the ids of tool calls that are answered, where both are sent.

    A window may begin between a call and its result, and APIs refuse one without the other.
    """
    first_user = next((n for n, m in enumerate(messages) if m.role is Role.USER), len(messages))
    parts = [part for message in messages[first_user:] for part in message.parts]
    calls = {part.call_id for part in parts if isinstance(part, ToolCallPart)}
    return calls & {part.call_id for part in parts if isinstance(part, ToolResultPart)}


def newest_question(messages: Sequence[PromptMessage]) -> int | None:
    """Return the position of the newest message if it is the user's words, where memory goes."""
    if not messages or messages[-1].role is not Role.USER:
        return None
    asks = any(isinstance(p, TextPart) and p.text.strip() for p in messages[-1].parts)
    return len(messages) - 1 if asks else None

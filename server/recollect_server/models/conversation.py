"""What every provider's conversations need: calls with their results, and where the question is."""

from collections.abc import Sequence

from recollect_server.memory.model import (
    Part,
    PromptMessage,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)


def with_answered_calls(messages: Sequence[PromptMessage]) -> tuple[PromptMessage, ...]:
    """Return a conversation as APIs take it: each tool call with its one result right behind it.

    A window may begin between the two, a result may never come or come twice: what has no partner
    is left out. Where the conversation went on before a result came, the call is sent with the
    last reply before the result.
    """
    first_user = next((n for n, m in enumerate(messages) if m.role is Role.USER), len(messages))
    open_calls: dict[str, ToolCallPart] = {}
    sent: list[tuple[Role, list[Part]]] = []
    reply: list[Part] = []
    results: list[Part] = []
    for position, message in enumerate(messages):
        said: list[Part] = []
        sent.append((message.role, said))
        if message.role is Role.ASSISTANT:
            sent.append((Role.TOOL, results := []))
            reply = said
        for part in message.parts:
            match part:
                case ToolCallPart(call_id):
                    if message.role is Role.ASSISTANT and position > first_user:
                        open_calls[call_id] = part
                case ToolResultPart(call_id):
                    if message.role is not Role.ASSISTANT and call_id in open_calls:
                        reply.append(open_calls.pop(call_id))
                        results.append(part)
                case _:
                    said.append(part)
    return tuple(PromptMessage(role, tuple(parts)) for role, parts in sent if parts)


def newest_question(messages: Sequence[PromptMessage]) -> int | None:
    """Return the position of the newest message if it is the user's words, where memory goes."""
    if not messages or messages[-1].role is not Role.USER:
        return None
    asks = any(isinstance(p, TextPart) and p.text.strip() for p in messages[-1].parts)
    return len(messages) - 1 if asks else None

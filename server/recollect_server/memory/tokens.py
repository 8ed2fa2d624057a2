"""Token estimates, for budgets. No provider's tokenizer is available offline.

English prose has about four bytes a token, and scripts of three-byte characters have about 0.75
tokens a character, so UTF-8 length / 4 serves both. Each message costs four tokens of framing.
"""

from recollect_server.memory.model import Part, ToolCallPart

MESSAGE_OVERHEAD = 4
"""Tokens a provider spends on a message's role and delimiters."""


def estimate_text(text: str) -> int:
    """Estimated tokens of a text."""
    return (len(text.encode()) + 3) // 4


def _part_text(part: Part) -> str:
    return part.name + part.input_json if isinstance(part, ToolCallPart) else part.text


def part_bytes(part: Part) -> int:
    """Size of a part's text in bytes of UTF-8."""
    return len(_part_text(part).encode())


def estimate_message(parts: tuple[Part, ...]) -> int:
    """Estimated tokens of a message, its framing included."""
    return MESSAGE_OVERHEAD + sum(estimate_text(_part_text(part)) for part in parts)

"""Rule violations in the words of an API: which field, and what would be right."""

from typing import Any


def field_path(path: Any) -> str:
    """Return a path as in `messages[2].parts[0].text`, from a buf.validate.FieldPath."""
    text = ""
    for element in path.elements:
        text += f".{element.field_name}" if text else element.field_name
        subscript = element.subscript
        if subscript is not None:
            value = subscript.value
            text += f"[{value!r}]" if isinstance(value, str) else f"[{value}]"
    return text


def describe(violation: Any) -> tuple[str, str]:
    """Return (field, description) of a buf.validate.Violation."""
    message = violation.message.replace("\x00", "NUL")
    return field_path(violation.field), message

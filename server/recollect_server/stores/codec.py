"""Messages as bytes, for SQL and Valkey alike: msgpack of arrays, the commonest shape the smallest.

A part is an array that starts with its kind. What is written once is read for years: kinds and
positions are never reused, new fields go to the end.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from recollect_server.memory.model import (
    Message,
    Part,
    Role,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)

_TEXT, _THINKING, _TOOL_CALL, _TOOL_RESULT = 0, 1, 2, 3
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class CorruptDataError(ValueError):
    """Bytes that these functions did not write."""


def to_microseconds(time: datetime) -> int:
    """Return microseconds since 1970, exact."""
    return (time - _EPOCH) // _MICROSECOND


def from_microseconds(microseconds: int) -> datetime:
    """Return an aware UTC datetime."""
    return _EPOCH + microseconds * _MICROSECOND


def pack(value: Any) -> bytes:
    """Return msgpack of plain values: numbers, text, bytes, arrays and maps."""
    return _encode(value)


def unpack(data: bytes) -> Any:
    """Return what `pack` was given, arrays as lists.

    Raises:
        CorruptDataError: not msgpack.
    """
    try:
        return _decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptDataError("not msgpack") from error


def _pack_part(part: Part) -> list[Any]:
    match part:
        case TextPart(text):
            return [_TEXT, text]
        case ThinkingPart(text, signature):
            return [_THINKING, text, signature]
        case ToolCallPart(call_id, name, input_json):
            return [_TOOL_CALL, call_id, name, input_json]
        case ToolResultPart(call_id, text, is_error):
            return [_TOOL_RESULT, call_id, text, is_error]


def _unpack_part(fields: list[Any]) -> Part:
    match fields:
        case [0, str(text)]:
            return TextPart(text)
        case [1, str(text), str(signature)]:
            return ThinkingPart(text, signature)
        case [2, str(call_id), str(name), str(input_json)]:
            return ToolCallPart(call_id, name, input_json)
        case [3, str(call_id), str(text), bool(is_error)]:
            return ToolResultPart(call_id, text, is_error)
        case _:
            raise CorruptDataError("not a part of a message")


def encode_parts(parts: Sequence[Part]) -> bytes:
    """Return the bytes of a message's parts."""
    return _encode([_pack_part(part) for part in parts])


def decode_parts(data: bytes) -> tuple[Part, ...]:
    """Return the parts of `encode_parts`.

    Raises:
        CorruptDataError: the bytes are not parts.
    """
    return tuple(_unpack_part(fields) for fields in unpack(data))


def encode_messages(messages: Sequence[Message]) -> bytes:
    """Return the bytes of stored messages."""
    return _encode(
        [
            [
                m.message_id,
                m.session_id,
                m.sequence,
                int(m.role),
                [_pack_part(part) for part in m.parts],
                m.author_name,
                to_microseconds(m.time),
                to_microseconds(m.create_time),
                dict(m.metadata),
                m.external_id,
                m.token_count,
            ]
            for m in messages
        ]
    )


def decode_messages(data: bytes) -> tuple[Message, ...]:
    """Return the messages of `encode_messages`.

    Raises:
        CorruptDataError: the bytes are not messages.
    """
    try:
        return tuple(
            Message(
                message_id,
                session_id,
                sequence,
                Role(role),
                tuple(_unpack_part(fields) for fields in parts),
                author_name,
                from_microseconds(time),
                from_microseconds(create_time),
                metadata,
                external_id,
                token_count,
            )
            for (
                message_id,
                session_id,
                sequence,
                role,
                parts,
                author_name,
                time,
                create_time,
                metadata,
                external_id,
                token_count,
            ) in unpack(data)
        )
    except (TypeError, ValueError) as error:
        raise CorruptDataError("not messages") from error

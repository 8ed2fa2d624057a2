"""Timestamps and durations that protobuf itself forbids, in any field of any request.

A parser takes any numbers; the limits are those that google/protobuf/timestamp.proto and
duration.proto state. Within them every value has a datetime or a timedelta.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

_TIMESTAMP = "google.protobuf.Timestamp"
_DURATION = "google.protobuf.Duration"
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_MOST_SECONDS = 315_576_000_000
_MOST_NANOS = 999_999_999


class _Field(NamedTuple):
    """A field that is a time, or may hold one deeper down."""

    name: str
    repeated: bool
    time: bool


@cache
def _fields(descriptor: Descriptor) -> tuple[_Field, ...]:
    """Return the fields of a message type to look at: every request pays for each."""
    return tuple(
        _Field(field.name, field.is_repeated, kind.full_name in (_TIMESTAMP, _DURATION))
        for field in descriptor.fields
        if (kind := field.message_type) is not None
        and (kind.full_name in (_TIMESTAMP, _DURATION) or _fields(kind))
    )


def malformed_times(message: Message) -> tuple[tuple[str, str], ...]:
    """Return (field, description) of each time that is none, as in `messages[2].time`."""
    return tuple(_malformed(message, "")) if _fields(message.DESCRIPTOR) else ()


def _malformed(message: Any, path: str) -> Iterator[tuple[str, str]]:
    for name, repeated, time in _fields(message.DESCRIPTOR):
        if not repeated and not message.HasField(name):
            continue
        value = getattr(message, name)
        for number, item in enumerate(value if repeated else (value,)):
            if not time:
                yield from _malformed(
                    item, f"{path}{name}[{number}]." if repeated else f"{path}{name}."
                )
            elif description := _wrong(item):
                yield f"{path}{name}[{number}]" if repeated else f"{path}{name}", description


def _wrong(time: Any) -> str:
    if time.DESCRIPTOR.full_name == _TIMESTAMP:
        if not _FIRST_SECOND <= time.seconds <= _LAST_SECOND:
            return "must be from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z"
        if not 0 <= time.nanos <= _MOST_NANOS:
            return "must have nanos from 0 to 999,999,999"
        return ""
    if abs(time.seconds) > _MOST_SECONDS:
        return "must be at most 315,576,000,000 seconds"
    if abs(time.nanos) > _MOST_NANOS or time.seconds * time.nanos < 0:
        return "must have nanos of up to 999,999,999 with the sign of its seconds"
    return ""

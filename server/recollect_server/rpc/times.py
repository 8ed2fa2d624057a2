"""Timestamps and durations that protobuf itself forbids, in any field of any request.

A parser takes any numbers; the limits are those that google/protobuf/timestamp.proto and
duration.proto state. Within them every value has a datetime or a timedelta.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

_TIMESTAMP = "google.protobuf.Timestamp"
_DURATION = "google.protobuf.Duration"
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_MOST_SECONDS = 315_576_000_000
_MOST_NANOS = 999_999_999
MOST_ITEMS = 10_000
"""Longer lists are not gone through: they are refused, and every other call would wait."""


@cache
def _holds_times(descriptor: Descriptor) -> bool:
    """Whether a message of the type may hold a time, itself or deeper down."""
    if descriptor.full_name in (_TIMESTAMP, _DURATION):
        return True
    inner = (field.message_type for field in descriptor.fields)
    return any(_holds_times(kind) for kind in inner if kind is not None)


def malformed_times(message: Message, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, description) of each time that is none, as in `messages[2].time`."""
    if not _holds_times(message.DESCRIPTOR):
        return
    if message.DESCRIPTOR.full_name in (_TIMESTAMP, _DURATION):
        if description := _wrong(message):
            yield path, description
        return
    for field, value in message.ListFields():
        if field.message_type is None or not _holds_times(field.message_type):
            continue
        name = f"{path}.{field.name}" if path else field.name
        if field.is_repeated:
            if len(value) > MOST_ITEMS:
                continue
            for number, item in enumerate(value):
                yield from malformed_times(item, f"{name}[{number}]")
        else:
            yield from malformed_times(value, name)


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

"""Requests from plain values."""

import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from recollect.v1 import common_pb2, memory_pb2

MessageLike = memory_pb2.NewMessage | str
FactLike = memory_pb2.NewFact | str


def new_request_id() -> str:
    """Return a fresh UUID."""
    return str(uuid.uuid4())


def timestamp(time: datetime | None) -> Timestamp | None:
    """Return a timestamp; a time without a zone is taken as UTC."""
    if time is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(time if time.tzinfo is not None else time.replace(tzinfo=UTC))
    return stamp


def duration(value: timedelta | float | None) -> Duration | None:
    """Return a duration, of a timedelta or of seconds."""
    if value is None:
        return None
    made = Duration()
    made.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    return made


def _message(
    role: common_pb2.Role.ValueType,
    part: common_pb2.ContentPart,
    author_name: str,
    time: datetime | None,
    metadata: Mapping[str, str] | None,
    external_id: str,
) -> memory_pb2.NewMessage:
    return memory_pb2.NewMessage(
        role=role,
        parts=[part],
        author_name=author_name,
        time=timestamp(time),
        metadata=metadata,
        external_id=external_id,
    )


def user(
    text: str,
    *,
    author_name: str = "",
    time: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
    external_id: str = "",
) -> memory_pb2.NewMessage:
    """Return a message of the user."""
    part = common_pb2.ContentPart(text=text)
    return _message(common_pb2.ROLE_USER, part, author_name, time, metadata, external_id)


def assistant(
    text: str,
    *,
    author_name: str = "",
    time: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
    external_id: str = "",
) -> memory_pb2.NewMessage:
    """Return a message of the model."""
    part = common_pb2.ContentPart(text=text)
    return _message(common_pb2.ROLE_ASSISTANT, part, author_name, time, metadata, external_id)


def system(
    text: str,
    *,
    time: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
    external_id: str = "",
) -> memory_pb2.NewMessage:
    """Return instructions of the application."""
    part = common_pb2.ContentPart(text=text)
    return _message(common_pb2.ROLE_SYSTEM, part, "", time, metadata, external_id)


def tool_result(
    call_id: str,
    text: str,
    *,
    is_error: bool = False,
    time: datetime | None = None,
    metadata: Mapping[str, str] | None = None,
    external_id: str = "",
) -> memory_pb2.NewMessage:
    """Return a tool's answer to the call `call_id`."""
    result = common_pb2.ToolResult(call_id=call_id, text=text, is_error=is_error)
    part = common_pb2.ContentPart(tool_result=result)
    return _message(common_pb2.ROLE_TOOL, part, "", time, metadata, external_id)


def as_message(message: MessageLike) -> memory_pb2.NewMessage:
    """Return a message; text is the user's."""
    return user(message) if isinstance(message, str) else message


def as_facts(facts: Iterable[FactLike]) -> list[memory_pb2.NewFact]:
    """Return facts; text is a fact with defaults."""
    return [memory_pb2.NewFact(text=f) if isinstance(f, str) else f for f in facts]

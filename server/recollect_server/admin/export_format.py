"""The records of an export, one JSON object a line; docs/export-format.md describes them.

Encoding a record that was decoded gives the same bytes: fields stand in the order given here, none
is left out, and there is no white space. Times are microseconds since 1970, durations microseconds.
"""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from recollect_server.errors import InvalidArgument
from recollect_server.memory.model import (
    Part,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolResultPart,
)

VERSION = 1

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256, pattern=r"\A[^\x00]*\Z")]
Time = Annotated[int, msgspec.Meta(ge=-62_135_596_800_000_000, le=253_402_300_799_999_999)]
Number = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Metadata = dict[str, str]


class _Record(msgspec.Struct, tag_field="type", frozen=True, forbid_unknown_fields=True):
    """Base of all records; all fields are required."""


class ExportStart(_Record, tag="export", frozen=True, forbid_unknown_fields=True):
    """The first record; `time` and `user_id` say of which export this is and nothing else."""

    version: int
    user_id: str
    time: Time


class SummaryFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A session's summary."""

    text: str
    through_sequence: Number
    update_time: Time
    model: str


class SessionRecord(_Record, tag="session", frozen=True, forbid_unknown_fields=True):
    """A durable session; its messages follow it."""

    session_id: Id
    title: str
    metadata: Metadata
    window_size: Number
    window_ttl: Number
    idle_ttl: Number
    expire_time: Time | None
    create_time: Time
    update_time: Time
    revision: Number
    last_sequence: Number
    window_start: Number
    summary: SummaryFields | None
    summary_through: Number
    extracted_through: Number
    episode_through: Number
    open_tokens: Number


class VectorFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Vectors of a text, one after the other: float16, little-endian, in base64."""

    model: str
    data: bytes


class MessageRecord(_Record, tag="message", frozen=True, forbid_unknown_fields=True):
    """A message of the last session record before it."""

    session_id: Id
    sequence: Number
    message_id: Id
    role: str
    parts: list[dict[str, Any]]
    author_name: str
    time: Time
    create_time: Time
    metadata: Metadata
    external_id: str
    token_count: Number
    vector: VectorFields | None


class EpisodeRecord(_Record, tag="episode", frozen=True, forbid_unknown_fields=True):
    """An episode."""

    episode_id: Id
    session_id: Id
    title: str
    summary: str
    model: str
    first_sequence: Number
    last_sequence: Number
    start_time: Time
    end_time: Time
    create_time: Time
    vector: VectorFields | None


class FactRecord(_Record, tag="fact", frozen=True, forbid_unknown_fields=True):
    """A version of a fact; of one fact the last is the current one."""

    fact_id: Id
    version: Number
    current: bool
    text: str
    kind: str
    metadata: Metadata
    confidence: float
    valid_from: Time
    valid_to: Time | None
    recorded_at: Time
    sources: list[tuple[str, Number, Number]]
    superseded_by: str
    vector: VectorFields | None


class ExportEnd(_Record, tag="end", frozen=True, forbid_unknown_fields=True):
    """The last record: without it the export is cut.

    Attributes:
        records: number of records before this one.
    """

    records: Number


Record = ExportStart | SessionRecord | MessageRecord | EpisodeRecord | FactRecord | ExportEnd

_decoder = msgspec.json.Decoder(Record)
_encode = msgspec.json.Encoder().encode


def encode_record(record: Record) -> bytes:
    """Return a record as JSON."""
    return _encode(record)


def decode_record(data: str) -> Record:
    """Return the record of a JSON object.

    Raises:
        InvalidArgument: it is none; the text says where and why, without quoting it.
    """
    try:
        record: Record = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise refused(str(error)) from None
    return record


def refused(why: str) -> InvalidArgument:
    """Return the error of a record that does not fit."""
    return InvalidArgument("record_json", f"{why}; see docs/export-format.md")


def from_parts(parts: Iterable[Part]) -> list[dict[str, Any]]:
    """Return a message's parts as the record has them."""
    found: list[dict[str, Any]] = []
    for part in parts:
        match part:
            case TextPart(text):
                found.append({"text": text})
            case ThinkingPart(text, signature):
                found.append({"thinking": text, "signature": signature})
            case ToolCallPart(call_id, name, input_json):
                found.append({"tool_call": call_id, "name": name, "input_json": input_json})
            case ToolResultPart(call_id, text, is_error):
                found.append({"tool_result": call_id, "text": text, "is_error": is_error})
    return found


def to_parts(parts: Iterable[dict[str, Any]]) -> tuple[Part, ...]:
    """Return the parts of `from_parts`. Raises `InvalidArgument`."""
    return tuple(_to_part(part) for part in parts)


def _to_part(part: dict[str, Any]) -> Part:
    # A pattern of a mapping lets other keys pass, so they are counted.
    match len(part), part:
        case 1, {"text": str(text)}:
            return TextPart(text)
        case 2, {"thinking": str(text), "signature": str(signature)}:
            return ThinkingPart(text, signature)
        case 3, {"tool_call": str(call_id), "name": str(name), "input_json": str(input_json)}:
            return ToolCallPart(call_id, name, input_json)
        case 3, {"tool_result": str(call_id), "text": str(text), "is_error": bool(is_error)}:
            return ToolResultPart(call_id, text, is_error)
    raise refused("a part of a message is of no known kind")

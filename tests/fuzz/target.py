"""The methods that are fuzzed, and what an answer to any input may be."""

import re
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from recollect.v1 import admin_pb2, cache_pb2, chat_pb2, memory_pb2

METHODS: list[MethodDescriptor] = [
    method
    for module in (memory_pb2, cache_pb2, chat_pb2, admin_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]

CALL_SECONDS = 120.0
"""Deadline of a call; only one that asks to wait may reach it."""

WAIT_SECONDS = 2.0
"""Deadline of a call that may ask to wait for a revision."""

_FORBIDDEN = (
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.UNAUTHENTICATED,
)
_EXCEPTION_TEXT = re.compile(
    r"Traceback|Exception|\w+Error\b|NoneType|object at 0x|File \"|\.py\b|psycopg|sqlite|asyncio|"
    r"google\.protobuf|grpc\._|<class|errno",
    re.IGNORECASE,
)

_TOO_LARGE = "Received message larger than max"
"""What gRPC itself says of a request of more than `max_request_bytes`."""

_CALL_ID = re.compile(r"call id \S+")


def path_of(method: MethodDescriptor) -> str:
    """Return `/recollect.v1.MemoryService/Recall`."""
    return f"/{method.containing_service.full_name}/{method.name}"


def waits(method: MethodDescriptor) -> bool:
    """Whether requests of a method may ask to wait."""
    return "min_revision" in method.input_type.fields_by_name


def may_time_out(method: MethodDescriptor) -> bool:
    """Whether requests of a method may ask to wait, or to give up early, as by `turn_timeout`."""
    return waits(method) or method.input_type.file.name.endswith("chat.proto")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a call.

    Attributes:
        messages: the responses' bytes.
    """

    code: grpc.StatusCode
    details: str = ""
    trailing: dict[str, Any] = field(default_factory=dict)
    messages: tuple[bytes, ...] = ()


def wrong(method: MethodDescriptor, answer: Answer) -> str:
    """Return what is wrong with an answer, "" if nothing is."""
    code = answer.code
    if code is grpc.StatusCode.OK:
        return ""
    if code in _FORBIDDEN:
        return f"{code.name} {_CALL_ID.sub('call id', answer.details)}"
    if found := _EXCEPTION_TEXT.search(answer.details):
        return f"{code.name} with {found.group()!r}: {answer.details[:300]}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "" if may_time_out(method) else f"no answer within {CALL_SECONDS} s"
    return _wrong_details(answer)


def _wrong_details(answer: Answer) -> str:
    """Every error that the server makes says its reason; gRPC's own have none."""
    packed = answer.trailing.get("grpc-status-details-bin")
    if packed is None and _TOO_LARGE in answer.details:
        return ""
    if packed is None:
        return f"{answer.code.name} without details: {answer.details[:300]}"
    try:
        status = status_pb2.Status.FromString(packed)
    except DecodeError:
        return f"{answer.code.name} with details that are none"
    infos = [detail for detail in status.details if detail.Is(_INFO)]
    info = error_details_pb2.ErrorInfo()
    if not infos or not infos[0].Unpack(info) or info.domain != "recollect" or not info.reason:
        return f"{answer.code.name} without a reason: {answer.details[:300]}"
    return ""


_INFO = error_details_pb2.ErrorInfo.DESCRIPTOR


@dataclass(slots=True)
class Known:
    """What later requests may name: ids and tokens that answers mentioned, newest last."""

    words: dict[str, deque[str]] = field(
        default_factory=lambda: defaultdict(lambda: deque(maxlen=20))
    )

    def learn(self, method: MethodDescriptor, answer: Answer) -> None:
        """Note the ids and tokens of a good answer."""
        response = GetMessageClass(method.output_type)
        for data in answer.messages[:2]:
            for name, value in _texts(response.FromString(data)):
                if name == "next_page_token":
                    name = "page_token"
                if name.endswith(("_id", "_token")) and len(value) <= 512 and name not in FIXED:
                    known = self.words[name]
                    if value not in known:
                        known.append(value)

    def snapshot(self) -> dict[str, tuple[str, ...]]:
        """Return the words as they are now, with those that never change."""
        return {name: tuple(values) for name, values in self.words.items() if values} | FIXED


FIXED: dict[str, tuple[str, ...]] = {
    "user_id": ("ada", "bob", "eve"),
    "session_id": ("s1", "s2", "s3"),
    "session_ids": ("s1", "s2", "s3"),
    "request_id": (
        "6f0c2a3e-6a5e-4a3c-9d8e-3b1f0e7a1c11",
        "6f0c2a3e-6a5e-4a3c-9d8e-3b1f0e7a1c12",
        "6f0c2a3e-6a5e-4a3c-9d8e-3b1f0e7a1c13",
        "",
    ),
    "model": ("", "m", "offline"),
    "tag": ("t",),
    "tags": ("t", "u"),
    "paths": ("title", "metadata", "text", "kind", "window_size", "confidence", "valid_to", "*"),
    "input_json": ("{}", '{"a": [1, null]}'),
    "input_schema_json": ("{}", '{"type": "object"}'),
    "record_json": ("{}", '{"kind": "user"}'),
    "target": ("", "exact:"),
    "query": ("when does the museum open?", "Lisbon", "tea"),
    "page_token": ("",),
    "resume_token": ("",),
}


def _texts(message: Message) -> Iterator[tuple[str, str]]:
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            if isinstance(value, str):
                yield descriptor.name, value
        elif not descriptor.is_repeated:
            yield from _texts(value)
        elif not descriptor.message_type.GetOptions().map_entry:
            for item in value[:5]:
                yield from _texts(item)

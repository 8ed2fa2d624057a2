"""What the contract says of methods, and plain values of its messages."""

from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from recollect.v1 import admin_pb2, cache_pb2, chat_pb2, memory_pb2

_AS_TEXT = (Timestamp, Duration, FieldMask)


@dataclass(frozen=True)
class Method:
    """A method of the contract.

    Attributes:
        name: as in `MemoryService/Recall`.
        item: what a stream or a list yields, None for others.
    """

    name: str
    request: type[Message]
    response: type[Message]
    item: type[Message] | None
    uploads: bool


def _item(method: Any) -> type[Message] | None:
    fields = method.output_type.fields
    if "next_page_token" in method.output_type.fields_by_name:
        return GetMessageClass(fields[0].message_type)
    if not method.server_streaming:
        return None
    if method.output_type.name in ("StreamChatResponse", "ResumeChatResponse"):
        return GetMessageClass(fields[0].message_type)
    return GetMessageClass(method.output_type)


METHODS = {
    name: Method(
        name,
        GetMessageClass(method.input_type),
        GetMessageClass(method.output_type),
        _item(method),
        method.client_streaming,
    )
    for module in (memory_pb2, cache_pb2, chat_pb2, admin_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
    for name in [f"{service.name}/{method.name}"]
}


def result(method: Method, answer: dict[str, Any]) -> Any:
    """Return the response that a runner's `result` or `value` stands for, as plain values.

    Raises:
        json_format.ParseError: it is none.
    """
    if "result" in answer:
        return plain(json_format.ParseDict(answer["result"], method.response()))
    value = answer["value"]
    if value is None:
        return plain(method.response())
    (field,) = method.response.DESCRIPTOR.fields
    return plain(json_format.ParseDict({field.name: value}, method.response()))


def item(method: Method, value: Any) -> Any:
    """Return what a runner's `item` stands for, as plain values."""
    assert method.item is not None
    if not isinstance(value, dict):
        (field,) = method.item.DESCRIPTOR.fields
        value = {field.name: value}
    return plain(json_format.ParseDict(value, method.item()))


def plain(message: Message) -> Any:
    """Return a message as dicts, lists, numbers and text; enums by name, every field that has no
    presence of its own, and of the others those that are set."""
    if isinstance(message, _AS_TEXT):
        return json_format.MessageToDict(message)
    return {
        field.name: _field(message, field)
        for field in message.DESCRIPTOR.fields
        if not field.has_presence or message.HasField(field.name)
    }


def _field(message: Message, field: FieldDescriptor) -> Any:
    value = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return dict(value)
    if field.is_repeated:
        return [_single(one, field) for one in value]
    return _single(value, field)


def _single(value: Any, field: FieldDescriptor) -> Any:
    if isinstance(value, Message):
        return plain(value)
    if field.enum_type is not None:
        known = field.enum_type.values_by_number.get(value)
        return known.name if known is not None else value
    return value

"""Says at once of most requests that they keep the contract's rules.

protovalidate, which finds what breaks a rule, takes a quarter of the time of a short call. So a
request is screened first: what passes keeps every rule, and protovalidate is asked about the rest.
A rule that is not understood here lets nothing pass. Rules are read by the numbers that
buf/validate/validate.proto gives them, because the stubs hold no copy of it.
"""

import math
import re
import struct
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

Screen = Callable[[Any], bool]
"""Whether a message, or a value of a field, surely keeps its rules."""

Rules = dict[int, Any]
"""Values by field number: integers, or bytes that are not decoded further. Number 0 stands for what
is not understood."""

_OPTION = 1159
"""Of a field, a oneof and a message: its rules."""

_STRING, _ENUM, _REPEATED, _MAP, _REQUIRED, _IGNORE = 14, 16, 18, 19, 25, 27
_IGNORE_ZERO = 1
_NUMBERS = {
    FieldDescriptor.CPPTYPE_DOUBLE: 2,
    FieldDescriptor.CPPTYPE_INT32: 3,
    FieldDescriptor.CPPTYPE_INT64: 4,
}
_MANY = 2**31
_UUID = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _nothing(value: Any) -> bool:
    """Leave it to protovalidate."""
    return False


@cache
def screen_of(descriptor: Descriptor) -> Screen | None:
    """Return the screen of a message type, None if it has no rules."""
    if _rules_of(descriptor):
        return _nothing
    always, present, lists = [], [], []
    oneofs = [each for each in descriptor.oneofs if each.name != f"_{each.fields[0].name}"]
    within = {field.name for oneof in oneofs for field in oneof.fields}
    for field in descriptor.fields:
        rules = _rules_of(field)
        if field.name in within:
            continue
        if field.is_repeated:
            lists.append((field.name, *_list(field, rules)))
        elif field.has_presence:
            required = bool(rules.pop(_REQUIRED, 0))
            present.append((field.name, required, _value(field, rules)))
        else:
            always.append((field.name, _plain(field, rules)))
    alternatives = [
        (oneof.name, _rules_of(oneof), {f.name: _value(f, _rules_of(f)) for f in oneof.fields})
        for oneof in oneofs
    ]
    return _message(
        [(name, screen) for name, screen in always if screen is not None],
        [each for each in present if each[1] or each[2] is not None],
        [each for each in lists if each[1:] != (0, _MANY, None)],
        [each for each in alternatives if each[1] or any(each[2].values())],
    )


def _message(
    always: list[tuple[str, Screen]],
    present: list[tuple[str, bool, Screen | None]],
    lists: list[tuple[str, int, int, Screen | None]],
    oneofs: list[tuple[str, Rules, dict[str, Screen | None]]],
) -> Screen | None:
    """Return the screen of messages with these fields: one loop for all of a kind, for speed."""
    if any(rules.keys() - {1} for _, rules, _ in oneofs):
        return _nothing
    if not (always or present or lists or oneofs):
        return None

    def passes(message: Any) -> bool:
        for name, screen in always:
            if not screen(getattr(message, name)):
                return False
        for name, required, inner in present:
            if not message.HasField(name):
                if required:
                    return False
            elif inner is not None and not inner(getattr(message, name)):
                return False
        for name, least, most, each in lists:
            values = getattr(message, name)
            if not least <= len(values) <= most:
                return False
            if each is not None and not all(map(each, values)):
                return False
        for name, rules, screens in oneofs:
            which = message.WhichOneof(name)
            if which is None:
                if rules:
                    return False
            elif (chosen := screens[which]) is not None and not chosen(getattr(message, which)):
                return False
        return True

    return passes


def _plain(field: FieldDescriptor, rules: Rules) -> Screen | None:
    """Return the screen of a field without presence, whose zero is a value too."""
    if rules.pop(_IGNORE, 0) != _IGNORE_ZERO:
        return _value(field, rules)
    screen = _value(field, rules)
    return None if screen is None else lambda value: not value or screen(value)


def _list(field: FieldDescriptor, rules: Rules) -> tuple[int, int, Screen | None]:
    """Return how many values a repeated field must have, at most, and the screen of each."""
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        value = field.message_type.fields_by_name["value"]
        given = _kind(rules, _MAP)
        if given is None or 1 in given:  # the fewest entries
            return 1, 0, None
        # With rules, a map passes without entries alone.
        return 0, 0 if given or value.message_type is not None else _MANY, None
    given = _kind(rules, _REPEATED)
    if given is None or given.keys() - {1, 2, 4}:
        return 1, 0, None
    return given.get(1, 0), given.get(2, _MANY), _value(field, _raw(given.get(4, b"")))


def _value(field: FieldDescriptor, rules: Rules) -> Screen | None:
    """Return the screen of one value, None if it has no rules."""
    if field.message_type is not None:
        return _nothing if rules else screen_of(field.message_type)
    if not rules:
        return None
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return _text(_kind(rules, _STRING))
    if field.enum_type is not None:
        return _enum(field.enum_type, _kind(rules, _ENUM))
    if field.cpp_type in _NUMBERS:
        return _number(field, _kind(rules, _NUMBERS[field.cpp_type]))
    return _nothing


def _text(given: Rules | None) -> Screen:
    if given == {22: 1}:
        return lambda text: _UUID.fullmatch(text) is not None
    if given is None or given.keys() - {2, 5, 23}:
        return _nothing
    least, most, without = given.get(2, 0), given.get(5, _MANY), given.get(23, b"").decode()

    def passes(text: str) -> bool:
        # A character takes four bytes at most.
        if len(text) < least or (len(text) * 4 > most and len(text.encode()) > most):
            return False
        return not without or without not in text

    return passes


def _enum(enum: EnumDescriptor, given: Rules | None) -> Screen:
    if given is None or given.keys() - {2, 4} or not given.get(2, 0):
        return _nothing
    refused = given.get(4)
    if isinstance(refused, bytes):  # packed
        return _nothing
    return (frozenset(enum.values_by_number) - {refused}).__contains__


def _number(field: FieldDescriptor, given: Rules | None) -> Screen:
    if given is None or given.keys() - {3, 4, 5}:
        return _nothing
    bounds = {kind: _bound(field, raw) for kind, raw in given.items()}
    most, above, least = bounds.get(3, math.inf), bounds.get(4, -math.inf), bounds.get(5, -math.inf)
    return lambda number: above < number and least <= number <= most


def _bound(field: FieldDescriptor, raw: int) -> float:
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        bound: float = struct.unpack("<d", struct.pack("<Q", raw))[0]
        return bound
    return raw - 2**64 if raw >= 2**63 else raw


def _kind(rules: Rules, number: int) -> Rules | None:
    """Return the rules of a kind of value, None if there are others."""
    return None if rules.keys() - {number} else _raw(rules.get(number, b""))


def _rules_of(described: Any) -> Rules:
    options = _raw(described.GetOptions().SerializeToString())
    rules = _raw(options.get(_OPTION, b""))
    return rules | {0: True} if 0 in options else rules


def _raw(data: bytes) -> Rules:
    """Return the fields of a message of any type; those of a list of several are not understood."""
    found: Rules = {}
    # Of Empty every field is unknown, whatever extensions this process knows.
    fields: Any = UnknownFieldSet(Empty.FromString(data))
    for field in fields:
        found[0 if field.field_number in found else field.field_number] = field.data
    return found

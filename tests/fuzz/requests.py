"""Requests of any message type, made from its descriptor as bytes.

Bytes, because a stub refuses to hold much of what can be sent: text that is not UTF-8, several
fields of a oneof, values of no enum, fields that do not exist.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from tests.fuzz import wire

Words = Mapping[str, Sequence[str]]
"""What a field of a name may well hold, such as ids that exist."""

TEXTS = (
    "The museum opens at ten.", "I live in Lisbon.", "when does it open?", "tea", "m", "a", "hello",
)  # fmt: skip

ZERO_WIDTH = ("ada\u200b", "a\u200dda", "\ufeffada", "ada\u2060", "a\u00adda")
CONFUSABLE = ("аda", "ɑda", "ａｄａ", "ADA", "Ada", "ada ", " ada", "é", "e\u0301", "ﬁ", "fi", "ß", "ss")

NASTY = tuple(
    text.encode()
    for text in (
        *ZERO_WIDTH, *CONFUSABLE,
        "", "\0", "a\0b", "\x01\x1f\x7f", "\r\nx: y", "\u202eada", "\u2028", "\ufffe", "\U0010ffff",
        "👩‍👩‍👧‍👦", "a" + "\u0301" * 300, "x" * 257, "x" * 1025, "é" * 129, "x" * 70_000,
        " ", "'; DROP TABLE users; --", '"', "%s%n", "{0}", "${x}", "*", "@g:{*}", "\\", "../../x",
        "None", "null", "-1", "1e999", "[" * 5_000, '{"a":' * 500, "{}", "[]", '{"a": NaN}',
        "00000000-0000-0000-0000-000000000000", "exact:", "pgvector:", "https://[", "qdrant+http://",
    )
) + (b"\xff", b"ada\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f")  # fmt: skip

SMALL = (0, 1, 2, 3, 5, 10)
INTEGERS = (
    -1, 50, 100, 101, 1000, 1001, 86_400, 10**9 - 1, 10**9, 1_760_000_000,
    2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 253_402_300_799, 253_402_300_800,
    -62_135_596_800, -62_135_596_801, 315_576_000_000, 2**63 - 1, -(2**63), 2**64 - 1,
)  # fmt: skip
DOUBLES = (-0.0, 1.5, 2.0, 2.1, -1.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"))
COUNTS = (1, 1, 1, 1, 1, 1, 2, 2, 3, 0, 70)

_TEXT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)

_PERCENT = st.integers(0, 99)


@st.composite
def _mostly(
    draw: Callable[[SearchStrategy[Any]], Any], percent: int, usual: Any, rare: Any
) -> Any:
    return draw(usual if draw(_PERCENT) < percent else rare)


def message(
    descriptor: Descriptor, words: Words, deeper: int = 8
) -> SearchStrategy[bytes]:
    """Return a strategy of messages of a type, about half of which keep to its rules."""
    singles = [
        (field, _chance(field), _field(field, words, deeper))
        for field in descriptor.fields
        if _oneof(field) is None
    ]
    oneofs = [
        [(field, _field(field, words, deeper)) for field in oneof.fields]
        for oneof in descriptor.oneofs
        if _oneof(oneof.fields[0]) is not None
    ]

    @st.composite
    def build(draw: Callable[[SearchStrategy[Any]], Any]) -> bytes:
        parts: list[bytes] = []
        for field, chance, strategy in singles:
            if draw(_PERCENT) >= chance:
                continue
            count = draw(st.sampled_from(COUNTS)) if field.is_repeated else 1
            parts += [draw(strategy)] * count if count > 3 else [draw(strategy) for _ in range(count)]
        for members in oneofs:
            number = draw(_PERCENT)
            for _ in range(0 if number < 3 else 2 if number > 96 else 1):
                parts.append(draw(st.sampled_from(members).flatmap(lambda member: member[1])))
        if draw(_PERCENT) < 3:
            parts.append(draw(_unknown()))
        return b"".join(parts)

    return build()


def generate(strategy: SearchStrategy[bytes], number: int, start: int) -> list[bytes]:
    """Return about a number of a strategy's values; which ones depends on `start`."""
    found: list[bytes] = []

    @seed(start)
    @settings(
        max_examples=number,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(data: bytes) -> None:
        found.append(data)

    collect()
    return found


def _oneof(field: FieldDescriptor) -> Any:
    """Return the field's oneof; what makes a field optional is none."""
    oneof = field.containing_oneof
    return None if oneof is None or len(oneof.fields) == 1 else oneof


def _chance(field: FieldDescriptor) -> int:
    """Return in how many of a hundred messages a field is."""
    if field.name == "min_revision":
        return 3  # answered only when it is there, or at the deadline
    if field.name in ("user_id", "session_id", "prompt", "message", "messages", "parts", "role"):
        return 96
    if field.message_type is not None or field.name.endswith(("_id", "_json")):
        return 70
    return 35


def _field(field: FieldDescriptor, words: Words, deeper: int) -> SearchStrategy[bytes]:
    number = field.number
    if field.message_type is not None:
        if not deeper:
            return st.just(b"")
        inner = message(field.message_type, words, deeper - 1)
        return inner.map(lambda data: wire.delimited(number, data))
    if field.type in _TEXT:
        usual = st.sampled_from([w.encode() for w in words.get(field.name) or TEXTS])
        text = _mostly(94, usual, st.sampled_from(NASTY))
        return text.map(lambda data: wire.delimited(number, data))
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        value = _mostly(92, st.sampled_from((0.0, 0.5, 1.0)), st.sampled_from(DOUBLES))
        return value.map(lambda data: wire.double(number, data))
    if field.enum_type is not None:
        known = [value.number for value in field.enum_type.values if value.number]
        value = _mostly(95, st.sampled_from(known), st.sampled_from((0, -1, 99, 2**31 - 1, 2**40)))
    else:
        value = _mostly(92, st.sampled_from(SMALL), st.sampled_from(INTEGERS))
    return value.map(lambda data: wire.integer(number, data))


def _unknown() -> SearchStrategy[bytes]:
    number = st.sampled_from((100, 536_870_911, 19_500))
    return st.one_of(
        number.map(lambda n: wire.integer(n, 2**64 - 1)),
        number.map(lambda n: wire.delimited(n, b"\xff" * 40)),
        number.map(lambda n: wire.tag(n, wire.GROUP) + wire.tag(n, wire.GROUP_END)),
        number.map(lambda n: wire.tag(n, wire.GROUP)),
    )

"""Requests of any message type, made from its descriptor as bytes.

Bytes, because a stub refuses to hold much of what can be sent: text that is not UTF-8, several
fields of a oneof, values of no enum, fields that do not exist.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
CONFUSABLE = (
    "аda",
    "ɑda",
    "ａｄａ",
    "ADA",
    "Ada",
    "ada ",
    " ada",
    "é",
    "e\u0301",
    "ﬁ",
    "fi",
    "ß",
    "ss",
)

_NASTY_TEXTS = (
    *ZERO_WIDTH, *CONFUSABLE,
    "", "\0", "a\0b", "\x01\x1f\x7f", "\r\nx: y", "\u202eada", "\u2028", "\ufffe", "\U0010ffff",
    "👩‍👩‍👧‍👦", "a" + "\u0301" * 300, "x" * 257, "x" * 1025, "é" * 129, "x" * 70_000,
    " ", "'; DROP TABLE users; --", '"', "%s%n", "{0}", "${x}", "*", "@g:{*}", "\\", "../../x",
    "None", "null", "-1", "1e999", "[" * 5_000, '{"a":' * 500, "{}", "[]", '{"a": NaN}',
    "00000000-0000-0000-0000-000000000000", "exact:", "pgvector:", "https://[", "qdrant+http://",
)  # fmt: skip
NOT_UTF8 = (b"\xff", b"ada\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xf0\x9f")
NASTY = (*(text.encode() for text in _NASTY_TEXTS), *NOT_UTF8)

SMALL = (0, 1, 2, 3, 5, 10)
INTEGERS = (
    -1, 50, 100, 101, 1000, 1001, 86_400, 10**9 - 1, 10**9, 1_760_000_000,
    2**31 - 1, 2**31, -(2**31), 2**32, 2**53, 253_402_300_799, 253_402_300_800,
    -62_135_596_800, -62_135_596_801, 315_576_000_000, 2**63 - 1, -(2**63), 2**64 - 1,
)  # fmt: skip
DOUBLES = (-0.0, 1.5, 2.0, 2.1, -1.0, 1e308, -1e308, 5e-324, float("nan"), float("inf"))

_TEXT = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)

_PERCENT = st.integers(0, 99)


NEEDED = frozenset(
    "user_id session_id fact_id episode_id turn_id entry_id job_id key_id prompt model message "
    "messages parts role facts query name answer lookups call_id input_json input_schema_json "
    "min_similarity verdict update_mask paths session fact text key value record_json".split()
)
"""Fields without which most requests are refused."""

_PERCENT = st.integers(0, 99)


@dataclass(frozen=True)
class Style:
    """How far requests keep to the rules.

    Attributes:
        rare: in how many of a hundred fields there is something that is hardly ever right.
        needed: in how many of a hundred messages a field of NEEDED is.
        optional: the same of other fields.
        counts: how often a repeated field is there.
    """

    rare: int
    needed: int
    optional: int
    counts: tuple[int, ...]


CAREFUL = Style(1, 100, 15, (1, 1, 1, 2))
WILD = Style(8, 96, 45, (1, 1, 1, 1, 1, 1, 2, 2, 3, 0, 70))


def request(descriptor: Descriptor, words: Words) -> SearchStrategy[bytes]:
    """Return a strategy of a method's requests, many of which keep to its rules."""
    return st.one_of(
        Requests(CAREFUL, words).message(descriptor), Requests(WILD, words).message(descriptor)
    )


@dataclass(frozen=True)
class Requests:
    """Makes strategies of one style."""

    style: Style
    words: Words

    def message(self, descriptor: Descriptor, deeper: int = 8) -> SearchStrategy[bytes]:
        """Return a strategy of messages of a type."""
        singles = [
            (field, self._chance(field), self._field(field, deeper))
            for field in descriptor.fields
            if _oneof(field) is None
        ]
        oneofs = [
            [self._field(field, deeper) for field in oneof.fields]
            for oneof in descriptor.oneofs
            if _oneof(oneof.fields[0]) is not None
        ]
        style = self.style

        @st.composite
        def build(draw: Callable[[SearchStrategy[Any]], Any]) -> bytes:
            parts: list[bytes] = []
            for field, chance, strategy in singles:
                if draw(_PERCENT) >= chance:
                    continue
                count = draw(st.sampled_from(style.counts)) if field.is_repeated else 1
                # Very many are the same one: what differs is drawn slowly.
                parts += [draw(strategy) for _ in range(min(count, 3))] * max(1, count // 3)
            for members in oneofs:
                drawn = draw(_PERCENT)
                count = 0 if drawn < style.rare else 2 if drawn >= 100 - style.rare else 1
                # The first one is a part's text and a lookup's limit.
                chosen = st.one_of(st.just(members[0]), st.sampled_from(members))
                parts += [draw(draw(chosen)) for _ in range(count)]
            if draw(_PERCENT) < style.rare:
                parts.append(draw(_unknown()))
            return b"".join(parts)

        return build()

    def _chance(self, field: FieldDescriptor) -> int:
        """Return in how many of a hundred messages a field is."""
        if field.name == "min_revision":
            return 2  # answered when it is there, or at the deadline
        return self.style.needed if field.name in NEEDED else self.style.optional

    def _field(self, field: FieldDescriptor, deeper: int) -> SearchStrategy[bytes]:
        number = field.number
        if field.message_type is not None:
            if not deeper:
                return st.just(b"")
            inner = self.message(field.message_type, deeper - 1)
            return inner.map(lambda data: wire.delimited(number, data))
        if field.type in _TEXT:
            usual = [word.encode() for word in self.words.get(field.name) or TEXTS]
            return self._mostly(usual, NASTY).map(lambda data: wire.delimited(number, data))
        if field.type == FieldDescriptor.TYPE_DOUBLE:
            value = self._mostly((0.0, 0.5, 1.0), DOUBLES)
            return value.map(lambda data: wire.double(number, data))
        if field.enum_type is not None:
            known = [value.number for value in field.enum_type.values if value.number]
            value = self._mostly(known, (0, -1, 99, 2**31 - 1, 2**40))
        else:
            value = self._mostly(SMALL, INTEGERS)
        return value.map(lambda data: wire.integer(number, data))

    def _mostly(self, usual: Sequence[Any], rare: Sequence[Any]) -> SearchStrategy[Any]:
        @st.composite
        def either(draw: Callable[[SearchStrategy[Any]], Any]) -> Any:
            return draw(st.sampled_from(rare if draw(_PERCENT) < self.style.rare else usual))

        return either()


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


def _unknown() -> SearchStrategy[bytes]:
    number = st.sampled_from((100, 536_870_911, 19_500))
    return st.one_of(
        number.map(lambda n: wire.integer(n, 2**64 - 1)),
        number.map(lambda n: wire.delimited(n, b"\xff" * 40)),
        number.map(lambda n: wire.tag(n, wire.GROUP) + wire.tag(n, wire.GROUP_END)),
        number.map(lambda n: wire.tag(n, wire.GROUP)),
    )

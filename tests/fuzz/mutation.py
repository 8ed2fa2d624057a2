"""Requests with something broken in them."""

from collections.abc import Callable, Sequence
from random import Random

from tests.fuzz import wire

MOST = 256 * 1024
"""Bytes of a mutated request."""

Mutator = Callable[[Random, bytes, bytes], bytes]

_LENGTHS = (0, 1, 127, 128, 2**31 - 1, 2**32 - 1, 2**63, 2**64 - 1)


def mutate(random: Random, data: bytes, pool: Sequence[bytes]) -> bytes:
    """Return a request broken in one to three ways; another of the pool may be mixed into it."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = random.choice(MUTATORS)(random, data, random.choice(pool))
    return data[:MOST]


def _cut(random: Random, data: bytes, other: bytes) -> bytes:
    return data[: random.randint(0, len(data))]


def _flip(random: Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(min(len(data), random.choice((1, 1, 2, 8)))):
        changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _overwrite(random: Random, data: bytes, other: bytes) -> bytes:
    start = random.randint(0, len(data))
    return data[:start] + random.randbytes(random.randint(1, 8)) + data[start + 4 :]


def _insert(random: Random, data: bytes, other: bytes) -> bytes:
    start = random.randint(0, len(data))
    return data[:start] + wire.varint(random.choice(_LENGTHS)) + data[start:]


def _remove(random: Random, data: bytes, other: bytes) -> bytes:
    start = random.randint(0, len(data))
    return data[:start] + data[start + random.randint(1, 16) :]


def _repeat(random: Random, data: bytes, other: bytes) -> bytes:
    start = random.randint(0, len(data))
    piece = data[start : start + random.randint(1, 200)]
    return data[:start] + piece * random.choice((2, 3, 100)) + data[start:]


def _merge(random: Random, data: bytes, other: bytes) -> bytes:
    """Both, as a parser merges them: repeated fields grow, oneofs are set twice."""
    return data + other


def _splice(random: Random, data: bytes, other: bytes) -> bytes:
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _nest(random: Random, data: bytes, other: bytes) -> bytes:
    """The request in a field of itself, many times over."""
    number = random.randint(1, 12)
    for _ in range(random.choice((1, 5, 120))):
        data = wire.delimited(number, data)
    return data


def _group(random: Random, data: bytes, other: bytes) -> bytes:
    return data + wire.tag(random.randint(1, 200), wire.GROUP) * random.choice((1, 99, 5000))


def _noise(random: Random, data: bytes, other: bytes) -> bytes:
    return random.randbytes(random.randint(0, 100))


MUTATORS: tuple[Mutator, ...] = (
    _cut, _flip, _flip, _overwrite, _insert, _remove, _repeat, _merge, _splice, _nest, _group,
    _noise,
)  # fmt: skip

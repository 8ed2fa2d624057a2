"""Token estimates, for budgets: counted by kinds of characters, without a tokenizer.

Weights are hundredths of a token. They were fitted to the mean count of three public tokenizers
(o200k_base, cl100k_base and Claude 2's) by non-negative least squares of the relative error, a
little above the middle, so that budgets hold; docs/tokens.md has the formula and its errors. No
weight is negative and no kind of occurrence gets rarer when a text grows, so a text never has a
lower estimate than a part of it.
"""

from recollect_server.memory.model import Part, ToolCallPart

MESSAGE_OVERHEAD = 4
"""Tokens a provider spends on a message's role and delimiters."""

UNIT = 100
"""Weights to a token."""

_LOWER = bytes(range(ord("a"), ord("z") + 1))
_LETTERS = _LOWER + _LOWER.upper()
_DIGITS = b"0123456789"
_BLANKS = b" \t\v\f"
_NOT_ASCII = bytes(range(0x80, 0x100))


def _table(*classes: tuple[bytes, bytes], other: bytes) -> bytes:
    """A translation of ASCII: each class's bytes to its letter, all others to `other`."""
    table = bytearray(other * 256)
    for members, letter in classes:
        for byte in members:
            table[byte] = letter[0]
    return bytes(table)


_SHAPE = _table(
    (_LOWER, b"a"),
    (_LOWER.upper(), b"A"),
    (_DIGITS, b"0"),
    (_BLANKS, b" "),
    (b"\r\n", b"\n"),
    other=b".",
)
_WORD = _table((_LETTERS, b"a"), other=b" ")
_NUMBER = _table((_DIGITS, b"0"), other=b" ")
_LINE = _table((b"\n", b"\n"), other=b"x")
_LONG = b"a" * 9

_LATIN_1 = 235
"""Weight of U+0080 to U+00FF. Their words are foreign to English, so more is split around them."""

_ELSEWHERE = 250
"""Weight of a character in a block that is not listed: byte-level tokenizers spell it in bytes."""

_BLOCKS = (
    (0x01, 0x02, 255),  # Latin with diacritics, phonetic
    (0x03, 0x03, 91),  # Greek, combining diacritics
    (0x04, 0x04, 44),  # Cyrillic
    (0x05, 0x05, 90),  # Hebrew (and Armenian, which needs 1.4)
    (0x06, 0x07, 78),  # Arabic
    (0x08, 0x09, 98),  # Devanagari, Bengali
    (0x0A, 0x0A, 188),  # Gurmukhi, Gujarati
    (0x0B, 0x0B, 132),  # Tamil, Odia
    (0x0C, 0x0D, 156),  # Telugu, Kannada, Malayalam, Sinhala
    (0x0E, 0x0E, 105),  # Thai, Lao
    (0x0F, 0x0F, 219),  # Tibetan
    (0x10, 0x10, 123),  # Burmese, Georgian
    (0x17, 0x17, 177),  # Khmer
    (0x1E, 0x1E, 40),  # Vietnamese
    (0x1F, 0x1F, 170),  # polytonic Greek
    (0x20, 0x20, 95),  # typographic punctuation
    (0x21, 0x2B, 172),  # arrows, mathematics, boxes, symbols
    (0x30, 0x30, 90),  # kana, ideographic punctuation
    (0x31, 0x33, 160),  # compatibility jamo, circled
    (0x4E, 0x9F, 96),  # ideographs
    (0xAC, 0xD7, 110),  # hangul
    (0xD8, 0xDB, 245),  # emoji and all else beyond the first plane: a pair of surrogates
    (0xDC, 0xDF, 0),  # the second of the pair
    (0xFE, 0xFF, 140),  # variation selectors, full width
)


def _block_weights() -> bytes:
    """Weights by a UTF-16 unit's high byte: every block of 256 characters has one."""
    weights = bytearray([_ELSEWHERE] * 256)
    for first, last, weight in _BLOCKS:
        weights[first : last + 1] = bytes([weight]) * (last + 1 - first)
    return bytes(weights)


_WEIGHTS = _block_weights()


def _ascii_weight(data: bytes) -> int:
    """Weight of ASCII by its shape, apart from the 2 that every character has.

    It is on the path of every write: a count over all of a short text takes some 0.2
    microseconds, one over what is left without its lower case letters half of that, and what most
    messages lack is asked for before it is counted.
    """
    words = data.translate(_WORD)
    rest = data.translate(_SHAPE, _LOWER)
    weight = 90 * (words.count(b" a") + words.startswith(b"a")) + 50 * words.count(_LONG)
    weight += 13 * rest.count(b"A") + 50 * rest.count(b".") + 12 * rest.count(b" .")
    if digits := rest.count(b"0"):
        numbers = data.translate(_NUMBER)
        weight += 18 * digits + 93 * (numbers.count(b" 0") + numbers.startswith(b"0"))
        weight += 95 * rest.count(b" 0") + 300 * rest.count(b"0A")
    if b"\n" in rest:
        lines = data.translate(_LINE, b" \t\r")
        weight += 165 * (lines.count(b"x\n") + lines.startswith(b"\n"))
    return weight


def _beyond_ascii_weight(text: str, ascii_characters: int) -> int:
    """Weight of a text's characters beyond ASCII, by their Unicode block."""
    blocks = text.encode("utf-16-be")[::2]
    latin = blocks.count(0) - ascii_characters
    return sum(blocks.translate(_WEIGHTS, b"\0")) + _LATIN_1 * latin


def estimate_text(text: str) -> int:
    """Estimated tokens of a text: 0 of none, else at least 1."""
    if not text:
        return 0
    data = text.encode()
    weight = 2 * len(text)
    if not text.isascii():
        data = data.translate(None, _NOT_ASCII)
        weight += _beyond_ascii_weight(text, len(data))
    return -(-(weight + _ascii_weight(data)) // UNIT)


def _part_text(part: Part) -> str:
    return part.name + part.input_json if isinstance(part, ToolCallPart) else part.text


def part_bytes(part: Part) -> int:
    """Size of a part's text in bytes of UTF-8."""
    return len(_part_text(part).encode())


def estimate_message(parts: tuple[Part, ...]) -> int:
    """Estimated tokens of a message, its framing included."""
    return MESSAGE_OVERHEAD + sum(estimate_text(_part_text(part)) for part in parts)

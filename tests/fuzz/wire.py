"""Protobuf's wire format, to write what no library would."""

import struct

VARINT, FIXED64, DELIMITED, GROUP, GROUP_END, FIXED32 = range(6)


def varint(number: int) -> bytes:
    """Return an integer of up to 64 bits; a negative one as its two's complement."""
    number &= 2**64 - 1
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def tag(number: int, wire_type: int) -> bytes:
    """Return what begins a field."""
    return varint(number << 3 | wire_type)


def integer(number: int, value: int) -> bytes:
    """Return a field that is an integer, a boolean or a value of an enum."""
    return tag(number, VARINT) + varint(value)


def double(number: int, value: float) -> bytes:
    """Return a field that is a double."""
    return tag(number, FIXED64) + struct.pack("<d", value)


def delimited(number: int, data: bytes) -> bytes:
    """Return a field that is a text or a message."""
    return tag(number, DELIMITED) + varint(len(data)) + data

"""Entries of the answer cache as bytes: a version byte, then msgpack checked by type."""

from datetime import datetime

import msgspec

from recollect_server.cache.model import CacheEntry, CacheScope
from recollect_server.memory.prompt import Usage
from recollect_server.stores.codec import CorruptDataError, decode_parts, encode_parts

VERSION = b"\x01"


class _Entry(msgspec.Struct, array_like=True, frozen=True):
    """`CacheEntry` in positions; a change of fields needs a new `VERSION`."""

    entry_id: str
    scope: CacheScope
    user_id: str
    session_id: str
    model: str
    question: str
    answer: bytes
    usage: tuple[int, int, int, int]
    tags: tuple[str, ...]
    cited_fact_ids: tuple[str, ...]
    holds_memory: bool
    create_time: datetime
    expire_time: datetime


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Entry)


def encode_entry(entry: CacheEntry) -> bytes:
    """Return the bytes of an entry."""
    usage = entry.usage
    wire = _Entry(
        entry_id=entry.entry_id,
        scope=entry.scope,
        user_id=entry.user_id,
        session_id=entry.session_id,
        model=entry.model,
        question=entry.question,
        answer=encode_parts(entry.answer),
        usage=(
            usage.input_tokens,
            usage.output_tokens,
            usage.cache_read_tokens,
            usage.cache_write_tokens,
        ),
        tags=entry.tags,
        cited_fact_ids=entry.cited_fact_ids,
        holds_memory=entry.holds_memory,
        create_time=entry.create_time,
        expire_time=entry.expire_time,
    )
    return VERSION + _encoder.encode(wire)


def decode_entry(data: bytes) -> CacheEntry:
    """Return the entry of `encode_entry`; times are in UTC.

    Raises:
        CorruptDataError: the bytes are not an entry of this version.
    """
    if data[:1] != VERSION:
        raise CorruptDataError("not an entry of this version")
    try:
        wire = _decoder.decode(data[1:])
        answer = decode_parts(wire.answer)
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptDataError("not an entry") from error
    if wire.create_time.tzinfo is None or wire.expire_time.tzinfo is None:
        raise CorruptDataError("a time without a zone")
    return CacheEntry(
        entry_id=wire.entry_id,
        scope=wire.scope,
        user_id=wire.user_id,
        session_id=wire.session_id,
        model=wire.model,
        question=wire.question,
        answer=answer,
        usage=Usage(*wire.usage),
        tags=wire.tags,
        cited_fact_ids=wire.cited_fact_ids,
        holds_memory=wire.holds_memory,
        create_time=wire.create_time,
        expire_time=wire.expire_time,
    )

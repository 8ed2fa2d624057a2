"""Entries of the answer cache and their conversations as bytes: a version, then typed msgpack."""

from datetime import datetime
from typing import NamedTuple

import msgspec
import numpy as np

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.model import CacheEntry, CacheScope
from recollect_server.memory.model import Role
from recollect_server.memory.prompt import Usage
from recollect_server.stores.codec import CorruptDataError, decode_parts, encode_parts

VERSION = b"\x02"


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


class _Conversation(msgspec.Struct, array_like=True, frozen=True):
    """What finds an entry; vectors are float16, which is exact to 5e-4."""

    question: str
    same: str
    group: str
    model_group: str
    roles: tuple[Role, ...]
    texts: tuple[str, ...]
    vectors: bytes
    embedder: str


class Finding(NamedTuple):
    """The digests of a `StoredAnswer`, and its conversation."""

    question: str
    same: str
    group: str
    model_group: str
    conversation: Conversation | None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Entry)
_finding_decoder = msgspec.msgpack.Decoder(_Conversation)


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


def encode_finding(finding: Finding) -> bytes:
    """Return the bytes of what finds an entry."""
    spoken = finding.conversation
    wire = _Conversation(
        question=finding.question,
        same=finding.same,
        group=finding.group,
        model_group=finding.model_group,
        roles=spoken.roles if spoken else (),
        texts=spoken.texts if spoken else (),
        vectors=spoken.vectors.astype(np.float16).tobytes() if spoken else b"",
        embedder=spoken.model if spoken else "",
    )
    return VERSION + _encoder.encode(wire)


def decode_finding(data: bytes) -> Finding:
    """Return what `encode_finding` was given.

    Raises:
        CorruptDataError: the bytes are not of this version.
    """
    if data[:1] != VERSION:
        raise CorruptDataError("not a conversation of this version")
    try:
        wire = _finding_decoder.decode(data[1:])
        digests = wire.question, wire.same, wire.group, wire.model_group
        return Finding(*digests, _conversation(wire))
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptDataError("not a conversation") from error


def _conversation(wire: _Conversation) -> Conversation | None:
    if not wire.roles:
        return None
    vectors = np.frombuffer(wire.vectors, np.float16).astype(np.float32)
    if len(wire.roles) != len(wire.texts) or not vectors.size:
        raise ValueError("texts and vectors do not go together")
    vectors = vectors.reshape(len(wire.texts), -1)
    # Half a float's rounding is taken out of the length again.
    lengths = np.sqrt(np.vecdot(vectors, vectors))
    vectors /= np.maximum(lengths, 1e-6)[:, None]
    return Conversation(wire.roles, wire.texts, vectors, wire.embedder)

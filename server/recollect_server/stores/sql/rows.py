"""Rows as domain values, and back."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect_server.memory.model import (
    Episode,
    Fact,
    FactKind,
    FactSource,
    Message,
    Retention,
    Role,
    Session,
    Summary,
    Vector,
)
from recollect_server.stores.codec import (
    decode_parts,
    from_microseconds,
    pack,
    to_microseconds,
    unpack,
)
from recollect_server.stores.sql.database import Row

SESSION_COLUMNS = (
    "session_id, title, retention, metadata, window_size, window_ttl, idle_ttl, create_time, "
    "update_time, revision, last_sequence, window_start, summary, expire_time, summary_through, "
    "open_tokens, episode_through, extracted_through"
)
MESSAGE_COLUMNS = (
    "m.message_id, m.sequence, m.role, m.content, m.extras, m.time, m.create_time, m.token_count"
)
EPISODE_COLUMNS = (
    "e.episode_id, s.session_id, e.title, e.summary, e.model, e.first_sequence, e.last_sequence, "
    "e.start_time, e.end_time"
)
GOES_ON = "(s.ends IS NULL OR s.ends > :now)"
"""Holds for a session `s` that has not ended; upkeep deletes the others a little later."""
FACT_COLUMNS = (
    "fact_id, version, text, metadata, confidence, valid_from, valid_to, recorded_at, sources, "
    "superseded_by, kind"
)


def duration_us(value: timedelta) -> int:
    """Return microseconds."""
    return value // timedelta(microseconds=1)


def to_session(row: Row) -> Session:
    """Return the session of SESSION_COLUMNS."""
    summary = None
    if row[12] is not None:
        text, through, updated, model = unpack(row[12])
        summary = Summary(text, through, from_microseconds(updated), model)
    return Session(
        session_id=row[0],
        title=row[1],
        retention=Retention(row[2]),
        metadata=unpack(row[3]),
        window_size=row[4],
        window_ttl=timedelta(microseconds=row[5]),
        idle_ttl=timedelta(microseconds=row[6]),
        create_time=from_microseconds(row[7]),
        update_time=from_microseconds(row[8]),
        revision=row[9],
        last_sequence=row[10],
        message_count=row[10],
        window_start=row[11],
        summary=summary,
        expire_time=from_microseconds(row[13]) if row[13] is not None else None,
        summary_through=row[14],
        open_tokens=row[15],
        episode_through=row[16],
        extracted_through=row[17],
    )


def pack_summary(summary: Summary) -> bytes:
    """Return the bytes of a summary."""
    updated = to_microseconds(summary.update_time)
    return pack([summary.text, summary.through_sequence, updated, summary.model])


def to_episode(row: Row) -> Episode:
    """Return the episode of EPISODE_COLUMNS."""
    return Episode(
        episode_id=row[0],
        session_id=row[1],
        title=row[2],
        summary=row[3],
        model=row[4],
        first_sequence=row[5],
        last_sequence=row[6],
        start_time=from_microseconds(row[7]),
        end_time=from_microseconds(row[8]),
    )


def pack_extras(author_name: str, metadata: Mapping[str, str], external_id: str) -> bytes | None:
    """Return what most messages do not have, None if this one has none of it."""
    if not (author_name or metadata or external_id):
        return None
    return pack([author_name, dict(metadata), external_id])


def to_message(session_id: str, row: Sequence[Any]) -> Message:
    """Return the message of MESSAGE_COLUMNS."""
    author_name, metadata, external_id = unpack(row[4]) if row[4] is not None else ("", {}, "")
    return Message(
        message_id=row[0],
        session_id=session_id,
        sequence=row[1],
        role=Role(row[2]),
        parts=decode_parts(row[3]),
        author_name=author_name,
        time=from_microseconds(row[5]),
        create_time=from_microseconds(row[6]),
        metadata=metadata,
        external_id=external_id,
        token_count=row[7],
    )


def pack_sources(sources: Sequence[FactSource]) -> bytes:
    """Return the bytes of a fact's sources."""
    return pack([[s.session_id, s.first_sequence, s.last_sequence] for s in sources])


def to_fact(row: Row) -> Fact:
    """Return the fact of FACT_COLUMNS."""
    return Fact(
        fact_id=row[0],
        version=row[1],
        text=row[2],
        metadata=unpack(row[3]),
        confidence=row[4],
        valid_from=from_microseconds(row[5]),
        valid_to=from_microseconds(row[6]) if row[6] is not None else None,
        recorded_at=from_microseconds(row[7]),
        sources=tuple(FactSource(*source) for source in unpack(row[8])),
        superseded_by=row[9],
        kind=FactKind(row[10]),
    )


def fact_params(fact: Fact) -> dict[str, Any]:
    """Return the parameters of FACT_COLUMNS."""
    return {
        "fact_id": fact.fact_id,
        "version": fact.version,
        "text": fact.text,
        "metadata": pack(dict(fact.metadata)),
        "confidence": fact.confidence,
        "valid_from": to_microseconds(fact.valid_from),
        "valid_to": to_microseconds(fact.valid_to) if fact.valid_to is not None else None,
        "recorded_at": to_microseconds(fact.recorded_at),
        "sources": pack_sources(fact.sources),
        "superseded_by": fact.superseded_by,
        "kind": int(fact.kind),
    }


def pack_vector(vector: Vector) -> bytes:
    """Return a unit vector as float16: half the bytes, exact to 3e-4 in a cosine."""
    return vector.astype(np.float16).tobytes()


def to_vector(data: bytes) -> NDArray[np.float32]:
    """Return the unit vector of `pack_vector`, shape (dimensions,)."""
    vector = np.frombuffer(data, np.float16).astype(np.float32)
    return vector / np.float32(max(float(np.linalg.norm(vector)), 1e-12))

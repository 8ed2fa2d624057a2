"""The records of an import, written as rows of its hidden user."""

from typing import Any

from recollect_server.admin.export_format import (
    EpisodeRecord,
    FactRecord,
    MessageRecord,
    SessionRecord,
    VectorFields,
    refused,
    to_parts,
)
from recollect_server.admin.portability import Item
from recollect_server.memory.model import FactKind, MemoryKind, Retention, Role, plain_text
from recollect_server.stores.codec import encode_parts, pack
from recollect_server.stores.sql.database import Transaction
from recollect_server.stores.sql.fact_digest import digest
from recollect_server.stores.sql.rows import pack_extras
from recollect_server.stores.sql.vector_outbox import vectors_stored


class RecordWriter:
    """Writes records of one revision of a hidden user."""

    def __init__(self, tx: Transaction, user_key: int, revision: int, now: int) -> None:
        self._tx = tx
        self._common: dict[str, Any] = {"user_key": user_key, "revision": revision, "now": now}
        self._sessions: dict[str, tuple[int, int]] = {}
        self._vectors = False
        model = tx.execute("SELECT model FROM embedding")
        self._model = model[0][0]

    def add(self, record: Item) -> None:
        """Write a record. Raises `InvalidArgument`."""
        match record:
            case SessionRecord():
                self._add_session(record)
            case MessageRecord():
                self._add_message(record)
            case EpisodeRecord():
                self._add_episode(record)
            case FactRecord():
                self._add_fact(record)

    def close(self) -> None:
        """Tell vector stores of what was written."""
        if self._vectors:
            vectors_stored(self._tx, self._common["user_key"], self._common["revision"])

    def _add_session(self, record: SessionRecord) -> None:
        summary = record.summary
        ends = [record.update_time + record.idle_ttl] if record.idle_ttl else []
        if record.expire_time is not None:
            ends.append(record.expire_time)
        rows = self._tx.execute(
            "INSERT INTO sessions (user_key, session_id, title, retention, metadata, window_size, "
            "window_ttl, idle_ttl, expire_time, ends, create_time, update_time, revision, "
            "last_sequence, window_start, summary, summary_through, extracted_through, "
            "episode_through, open_tokens) VALUES (:user_key, :session_id, :title, :retention, "
            ":metadata, :window_size, :window_ttl, :idle_ttl, :expire_time, :ends, :create_time, "
            ":update_time, :session_revision, :last_sequence, :window_start, :summary, "
            ":summary_through, :extracted_through, :episode_through, :open_tokens) "
            "ON CONFLICT (user_key, session_id) DO NOTHING RETURNING session_key",
            {
                **self._common,
                "session_id": record.session_id,
                "title": record.title,
                "retention": int(Retention.DURABLE),
                "metadata": pack(record.metadata),
                "window_size": record.window_size,
                "window_ttl": record.window_ttl,
                "idle_ttl": record.idle_ttl,
                "expire_time": record.expire_time,
                "ends": min(ends, default=None),
                "create_time": record.create_time,
                "update_time": record.update_time,
                "session_revision": record.revision,
                "last_sequence": record.last_sequence,
                "window_start": record.window_start,
                "summary": None
                if summary is None
                else pack(
                    [summary.text, summary.through_sequence, summary.update_time, summary.model]
                ),
                "summary_through": record.summary_through,
                "extracted_through": record.extracted_through,
                "episode_through": record.episode_through,
                "open_tokens": record.open_tokens,
            },
        )
        if not rows:
            raise refused("a session comes twice")
        self._sessions[record.session_id] = (rows[0][0], record.last_sequence)

    def _add_message(self, record: MessageRecord) -> None:
        session_key, last = self._session(record.session_id)
        if not 1 <= record.sequence <= last:
            raise refused("a message's sequence is not between 1 and its session's last_sequence")
        parts = to_parts(record.parts)
        params = {
            **self._common,
            "session_key": session_key,
            "sequence": record.sequence,
            "message_id": record.message_id,
            "role": int(_named(Role, record.role)),
            "content": encode_parts(parts),
            "extras": pack_extras(record.author_name, record.metadata, record.external_id),
            "time": record.time,
            "create_time": record.create_time,
            "token_count": record.token_count,
        }
        self._once(
            "INSERT INTO messages (session_key, sequence, user_key, user_revision, message_id, "
            "role, content, extras, time, create_time, token_count) VALUES (:session_key, "
            ":sequence, :user_key, :revision, :message_id, :role, :content, :extras, :time, "
            ":create_time, :token_count) "
            "ON CONFLICT (session_key, sequence) DO NOTHING RETURNING 1",
            params,
            "a message comes twice",
        )
        if self._fits(record.vector):
            self._tx.execute(
                "INSERT INTO message_vectors (session_key, sequence, user_key, user_revision, "
                "model, vector) VALUES (:session_key, :sequence, :user_key, :revision, :model, "
                ":vector)",
                params | _vector_params(record.vector),
            )
        elif plain_text(parts):
            self._wait(MemoryKind.TURN, session_key, record.sequence, "")

    def _add_episode(self, record: EpisodeRecord) -> None:
        session_key, _ = self._session(record.session_id)
        fits = self._fits(record.vector)
        self._once(
            "INSERT INTO episodes (user_key, episode_id, session_key, user_revision, title, "
            "summary, model, first_sequence, last_sequence, start_time, end_time, create_time, "
            "vector_model, vector) VALUES (:user_key, :episode_id, :session_key, :revision, "
            ":title, :summary, :writer, :first_sequence, :last_sequence, :start_time, :end_time, "
            ":create_time, :model, :vector) "
            "ON CONFLICT (user_key, episode_id) DO NOTHING RETURNING 1",
            {
                **self._common,
                "episode_id": record.episode_id,
                "session_key": session_key,
                "title": record.title,
                "summary": record.summary,
                "writer": record.model,
                "first_sequence": record.first_sequence,
                "last_sequence": record.last_sequence,
                "start_time": record.start_time,
                "end_time": record.end_time,
                "create_time": record.create_time,
                **_vector_params(record.vector if fits else None),
            },
            "an episode comes twice",
        )
        if not fits:
            self._wait(MemoryKind.EPISODE, session_key, 0, record.episode_id)

    def _add_fact(self, record: FactRecord) -> None:
        fits = record.current and self._fits(record.vector)
        self._once(
            "INSERT INTO facts (user_key, fact_id, version, is_current, user_revision, text, "
            "digest, kind, metadata, confidence, valid_from, valid_to, recorded_at, sources, "
            "superseded_by, vector_model, vector) VALUES (:user_key, :fact_id, :version, "
            ":current, :revision, :text, :digest, :kind, :metadata, :confidence, :valid_from, "
            ":valid_to, :recorded_at, :sources, :superseded_by, :model, :vector) "
            "ON CONFLICT (user_key, fact_id, version) DO NOTHING RETURNING 1",
            {
                **self._common,
                "fact_id": record.fact_id,
                "version": record.version,
                "current": int(record.current),
                "text": record.text,
                "digest": digest(record.text),
                "kind": int(_named(FactKind, record.kind)),
                "metadata": pack(record.metadata),
                "confidence": record.confidence,
                "valid_from": record.valid_from,
                "valid_to": record.valid_to,
                "recorded_at": record.recorded_at,
                "sources": pack([list(source) for source in record.sources]),
                "superseded_by": record.superseded_by,
                **_vector_params(record.vector if self._same_model(record.vector) else None),
            },
            "a version of a fact comes twice",
        )
        if record.current and not fits:
            self._wait(MemoryKind.FACT, 0, 0, record.fact_id)

    def _session(self, session_id: str) -> tuple[int, int]:
        """Return the key of a session that came before, and its last_sequence."""
        if session_id not in self._sessions:
            rows = self._tx.execute(
                "SELECT session_key, last_sequence FROM sessions WHERE user_key = :user_key "
                "AND session_id = :session_id",
                self._common | {"session_id": session_id},
            )
            if not rows:
                raise refused("a record names a session that did not come before it")
            self._sessions[session_id] = tuple(rows[0])
        return self._sessions[session_id]

    def _once(self, sql: str, params: dict[str, Any], otherwise: str) -> None:
        if not self._tx.execute(sql, params):
            raise refused(otherwise)

    def _same_model(self, vector: VectorFields | None) -> bool:
        return vector is not None and vector.model == self._model

    def _fits(self, vector: VectorFields | None) -> bool:
        """Whether a vector is one of the model that embeds here."""
        fits = self._same_model(vector)
        self._vectors |= fits
        return fits

    def _wait(self, kind: MemoryKind, session_key: int, sequence: int, item_id: str) -> None:
        """Have a text embedded once the user is published."""
        self._tx.execute(
            "INSERT INTO pending_vectors (user_key, user_revision, kind, session_key, sequence, "
            "item_id, create_time) VALUES (:user_key, :revision, :kind, :session_key, :sequence, "
            ":item_id, :now)",
            self._common
            | {
                "kind": int(kind),
                "session_key": session_key,
                "sequence": sequence,
                "item_id": item_id,
            },
        )


def _vector_params(vector: VectorFields | None) -> dict[str, Any]:
    if vector is None:
        return {"model": None, "vector": None}
    return {"model": vector.model, "vector": vector.data}


def _named(kind: Any, name: str) -> Any:
    try:
        return kind[name.upper()]
    except KeyError:
        raise refused(f"{kind.__name__.lower()} is none of its names") from None

"""Everything of a user as records; see `admin.export_format`."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from recollect_server.admin.export_format import (
    EpisodeRecord,
    FactRecord,
    MessageRecord,
    Record,
    SessionRecord,
    SummaryFields,
    VectorFields,
    from_parts,
)
from recollect_server.errors import NotFound, Reason
from recollect_server.memory.model import FactKind, Role
from recollect_server.scope import Scope
from recollect_server.stores.codec import decode_parts, to_microseconds, unpack
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.rows import GOES_ON
from recollect_server.stores.sql.users import find_user

PAGE = 500

_SESSIONS = (
    "SELECT s.session_id, s.title, s.metadata, s.window_size, s.window_ttl, s.idle_ttl, "
    "s.expire_time, s.create_time, s.update_time, s.revision, s.last_sequence, s.window_start, "
    "s.summary, s.summary_through, s.extracted_through, s.episode_through, s.open_tokens, "
    f"s.session_key FROM sessions s WHERE s.user_key = :user_key AND {GOES_ON} "
    "AND s.session_id > :after ORDER BY s.session_id LIMIT :limit"
)
_MESSAGES = (
    "SELECT m.sequence, m.message_id, m.role, m.content, m.time, m.create_time, m.extras, "
    "m.token_count, {vector} FROM messages m {join}"
    "WHERE m.session_key = :session_key AND m.sequence > :after "
    "ORDER BY m.sequence LIMIT :limit"
)
_EPISODES = (
    "SELECT e.episode_id, s.session_id, e.title, e.summary, e.model, e.first_sequence, "
    "e.last_sequence, e.start_time, e.end_time, e.create_time, {vector} FROM episodes e "
    f"JOIN sessions s ON s.session_key = e.session_key WHERE e.user_key = :user_key AND {GOES_ON} "
    "AND e.episode_id > :after ORDER BY e.episode_id LIMIT :limit"
)
_FACTS = (
    "SELECT fact_id, version, is_current, text, kind, metadata, confidence, valid_from, valid_to, "
    "recorded_at, sources, superseded_by, {vector} FROM facts WHERE user_key = :user_key "
    "AND (fact_id, version) > (:after, :version) ORDER BY fact_id, version LIMIT :limit"
)


class SqlExports:
    """Implements `admin.portability.ExportStore`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def read_user(
        self, scope: Scope, write: Callable[[Record], None], *, vectors: bool
    ) -> None:
        """See `ExportStore`."""
        now = to_microseconds(self._clock())

        def work(tx: Transaction) -> None:
            user = find_user(tx, scope)
            if user is None:
                raise NotFound(Reason.USER_NOT_FOUND, "user", scope.user_id)
            here = {"user_key": user[0], "now": now, "limit": PAGE}
            for part in (_sessions, _episodes, _facts):
                for record in part(tx, here, vectors):
                    write(record)

        await self._database.read(work)


def _sessions(tx: Transaction, here: dict[str, Any], vectors: bool) -> Iterator[Record]:
    after = ""
    while rows := tx.execute(_SESSIONS, here | {"after": after}):
        for row in rows:
            yield _session(row)
            yield from _messages(tx, row[0], row[-1], vectors)
        after = rows[-1][0]


def _messages(
    tx: Transaction, session_id: str, session_key: int, vectors: bool
) -> Iterator[Record]:
    join = (
        "LEFT JOIN message_vectors v ON v.session_key = m.session_key AND v.sequence = m.sequence "
    )
    query = _MESSAGES.format(
        vector="v.model, v.vector" if vectors else "NULL, NULL", join=join if vectors else ""
    )
    after = 0
    while rows := tx.execute(query, {"session_key": session_key, "after": after, "limit": PAGE}):
        for row in rows:
            extras = ("", {}, "") if row[6] is None else unpack(bytes(row[6]))
            yield MessageRecord(
                session_id=session_id,
                sequence=row[0],
                message_id=row[1],
                role=Role(row[2]).name.lower(),
                parts=from_parts(decode_parts(bytes(row[3]))),
                author_name=extras[0],
                time=row[4],
                create_time=row[5],
                metadata=extras[1],
                external_id=extras[2],
                token_count=row[7],
                vector=_vector(row[8], row[9]),
            )
        after = rows[-1][0]


def _episodes(tx: Transaction, here: dict[str, Any], vectors: bool) -> Iterator[Record]:
    query = _EPISODES.format(vector="e.vector_model, e.vector" if vectors else "NULL, NULL")
    after = ""
    while rows := tx.execute(query, here | {"after": after}):
        for row in rows:
            fields: list[Any] = [*row[:10], _vector(*row[10:])]
            yield EpisodeRecord(*fields)
        after = rows[-1][0]


def _facts(tx: Transaction, here: dict[str, Any], vectors: bool) -> Iterator[Record]:
    query = _FACTS.format(vector="vector_model, vector" if vectors else "NULL, NULL")
    after, version = "", 0
    while rows := tx.execute(query, here | {"after": after, "version": version}):
        for row in rows:
            yield FactRecord(
                fact_id=row[0],
                version=row[1],
                current=bool(row[2]),
                text=row[3],
                kind=FactKind(row[4]).name.lower(),
                metadata=unpack(bytes(row[5])),
                confidence=row[6],
                valid_from=row[7],
                valid_to=row[8],
                recorded_at=row[9],
                sources=[tuple(source) for source in unpack(bytes(row[10]))],
                superseded_by=row[11],
                vector=_vector(*row[12:]),
            )
        after, version = rows[-1][0], rows[-1][1]


def _session(row: Row) -> SessionRecord:
    summary = None if row[12] is None else SummaryFields(*unpack(bytes(row[12])))
    fields: list[Any] = list(row[:17])
    fields[2], fields[12] = unpack(bytes(row[2])), summary
    return SessionRecord(*fields)


def _vector(model: str | None, data: bytes | None) -> VectorFields | None:
    return None if model is None or data is None else VectorFields(model, bytes(data))

"""What indexes are built from: all of a user's items, or what changed since a revision."""

from collections.abc import Callable
from datetime import datetime

from recollect_server.memory.due import JobKind
from recollect_server.memory.model import FactKind, MemoryKind, Role, plain_text
from recollect_server.memory.ports import IndexChanges, IndexItem
from recollect_server.scope import Scope
from recollect_server.stores.codec import (
    decode_parts,
    from_microseconds,
    to_microseconds,
    unpack,
)
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.jobs import hurry
from recollect_server.stores.sql.pending import indexed_revision, read_revisions
from recollect_server.stores.sql.rows import EPISODE_COLUMNS, to_episode, to_vector
from recollect_server.stores.sql.users import find_user

_TURN_COLUMNS = (
    "m.message_id, s.session_id, m.sequence, m.role, m.content, m.extras, m.time, v.model, v.vector"
)
_FACT_COLUMNS = "fact_id, text, metadata, valid_from, kind, vector_model, vector, valid_to"


def turn_item(row: Row, model: str) -> IndexItem:
    """Return the turn of _TURN_COLUMNS, without its vector if that is of another model."""
    role = Role(row[3])
    author, metadata, _ = unpack(row[5]) if row[5] is not None else ("", {}, "")
    return IndexItem(
        kind=MemoryKind.TURN,
        item_id=row[0],
        session_id=row[1],
        sequence=row[2],
        role=role,
        speaker=author or role.name.lower(),
        text=plain_text(decode_parts(row[4])),
        time=from_microseconds(row[6]),
        metadata=metadata,
        vector=to_vector(row[8]) if row[7] == model else None,
    )


def fact_item(row: Row, model: str) -> IndexItem:
    """Return the fact of _FACT_COLUMNS, without its vector if that is of another model."""
    return IndexItem(
        kind=MemoryKind.FACT,
        item_id=row[0],
        session_id="",
        sequence=0,
        role=Role.USER,
        speaker="",
        text=row[1],
        time=from_microseconds(row[3]),
        metadata=unpack(row[2]),
        vector=to_vector(row[6]) if row[5] == model else None,
        fact_kind=FactKind(row[4]),
    )


def episode_item(row: Row, model: str) -> IndexItem:
    """Return the episode of EPISODE_COLUMNS, vector_model and vector."""
    episode = to_episode(row[:-2])
    return IndexItem(
        kind=MemoryKind.EPISODE,
        item_id=episode.episode_id,
        session_id=episode.session_id,
        sequence=0,
        role=Role.USER,
        speaker="",
        text=episode.text,
        time=episode.end_time,
        metadata={},
        vector=to_vector(row[-1]) if row[-2] == model else None,
    )


class SqlIndexSource:
    """Implements `memory.ports.IndexSource`.

    Args:
        clock: returns the present as an aware UTC datetime.
        model: whose vectors make a revision indexed; "" means the model that embeds.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime], model: str = "") -> None:
        self._database = database
        self._clock = clock
        self._model = model

    async def user_revision(self, scope: Scope) -> tuple[int, int]:
        """See `IndexSource`."""
        return await read_revisions(self._database, scope, self._model)

    async def index_changes(self, scope: Scope, since: int, model: str) -> IndexChanges:
        """See `IndexSource`."""

        def work(tx: Transaction) -> IndexChanges:
            user = find_user(tx, scope)
            if user is None:
                return IndexChanges(0, 0, (), (), complete=True)
            now = to_microseconds(self._clock())
            indexed = indexed_revision(tx, *user, self._model)
            return _changes(tx, user, indexed, since, model, now)

        return await self._database.read(work)

    async def hurry(self, scope: Scope) -> None:
        """See `IndexSource`."""
        now = to_microseconds(self._clock())

        def work(tx: Transaction) -> None:
            user = find_user(tx, scope)
            if user is not None:
                hurry(tx, JobKind.EMBED, user[0], now)

        await self._database.write(work)


def _changes(
    tx: Transaction, user: tuple[int, int], indexed: int, since: int, model: str, now: int
) -> IndexChanges:
    user_key, revision = user
    params = {"user_key": user_key, "since": since}
    # No vector is of no model, so without one none is read.
    turn_columns, fact_columns, episode_vector = (
        _TURN_COLUMNS if model else _TURN_COLUMNS.replace("v.model, v.vector", "NULL, NULL"),
        _FACT_COLUMNS if model else _FACT_COLUMNS.replace("vector_model, vector", "NULL, NULL"),
        "e.vector_model, e.vector" if model else "NULL, NULL",
    )
    base = (
        f"SELECT {turn_columns} FROM messages m "
        "JOIN sessions s ON s.session_key = m.session_key "
        "LEFT JOIN message_vectors v ON v.session_key = m.session_key "
        "AND v.sequence = m.sequence "
    )
    if since == 0:
        turns = tx.execute(
            f"{base}WHERE m.user_key = :user_key ORDER BY m.session_key, m.sequence",
            {"user_key": user_key},
        )
    else:
        turns = tx.execute(
            f"{base}WHERE m.user_key = :user_key AND m.user_revision > :since UNION "
            f"{base}WHERE v.user_key = :user_key AND v.user_revision > :since "
            "ORDER BY 2, 3",
            params,
        )
    facts = tx.execute(
        f"SELECT {fact_columns} FROM facts WHERE user_key = :user_key AND is_current = 1 "
        "AND user_revision > :since",
        params,
    )
    # A fact that no longer holds is not recalled; its history keeps it.
    holding = [row for row in facts if row[-1] is None or row[-1] > now]
    kept = {row[0] for row in holding}
    closed = [(MemoryKind.FACT, row[0]) for row in facts if row[0] not in kept]
    episodes = tx.execute(
        f"SELECT {EPISODE_COLUMNS}, {episode_vector} FROM episodes e "
        "JOIN sessions s ON s.session_key = e.session_key "
        "WHERE e.user_key = :user_key AND e.user_revision > :since",
        params,
    )
    gone = tx.execute(
        "SELECT kind, item_id FROM tombstones WHERE user_key = :user_key "
        "AND user_revision > :since ORDER BY user_revision",
        params,
    )
    upserts = (
        *(turn_item(row, model) for row in turns),
        *(fact_item(row, model) for row in holding),
        *(episode_item(row, model) for row in episodes),
    )
    alive = {(item.kind, item.item_id) for item in upserts}
    deletes = tuple(closed) + tuple(
        key for kind, item_id in gone if (key := (MemoryKind(kind), item_id)) not in alive
    )
    return IndexChanges(
        revision=revision,
        indexed_revision=indexed,
        upserts=upserts,
        deletes=() if since == 0 else deletes,
        complete=since == 0,
    )

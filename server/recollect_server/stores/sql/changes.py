"""Changes that can be watched, numbered by the user's revision.

A new message is its own record: its row has the revision that made it. Every other change has a row
here, written in the change's transaction. What a deleted thing was is not kept.
"""

from collections.abc import Mapping
from datetime import timedelta
from itertools import accumulate
from typing import Any

from recollect_server.errors import NotFound, OutOfRange, Reason
from recollect_server.memory.model import MemoryKind, Session
from recollect_server.memory.watch import (
    KEPT_DAYS,
    Change,
    ChangeType,
    Deleted,
    Position,
    SubjectKind,
)
from recollect_server.scope import Scope
from recollect_server.stores.codec import from_microseconds, pack, unpack
from recollect_server.stores.sql.database import Database, Row, Transaction
from recollect_server.stores.sql.rows import (
    EPISODE_COLUMNS,
    FACT_COLUMNS,
    MESSAGE_COLUMNS,
    to_episode,
    to_fact,
    to_message,
    to_session,
)
from recollect_server.stores.sql.users import erased_digest, erased_revision, find_user

PAGE_BYTES = 1 << 20
"""What is read at once ends with the write that goes beyond this, so that one who reads slowly does
not hold much."""

TOKEN_BYTES = 4
KEPT_MICROSECONDS = timedelta(days=KEPT_DAYS) // timedelta(microseconds=1)


FORGET_SNAPSHOTS = (
    "UPDATE changes SET snapshot = NULL WHERE user_key = :user_key AND session_id = :session_id "
    "AND snapshot IS NOT NULL"
)
"""Goes by an index of the changes that have one, which are few: the sessions' own."""


class ChangeLog:
    """Records the changes of one transaction, in their order.

    Args:
        revision: the user's, made by the transaction.
        now: microseconds since 1970.
    """

    def __init__(self, tx: Transaction, user_key: int, revision: int, now: int) -> None:
        self.user_key = user_key
        self.revision = revision
        self.now = now
        self._tx = tx
        self._number = 0

    def session(self, type: ChangeType, row: Row) -> None:
        """Record that a session was created or changed; `row` is of SESSION_COLUMNS."""
        self._add(type, SubjectKind.SESSION, row[0], snapshot=pack(list(row)))

    def session_deleted(self, session_id: str) -> None:
        """Record that a session is gone, and forget what it was."""
        self._tx.execute(FORGET_SNAPSHOTS, {"user_key": self.user_key, "session_id": session_id})
        self._add(ChangeType.DELETED, SubjectKind.SESSION, session_id)

    def fact(self, type: ChangeType, fact_id: str, version: int = 0) -> None:
        """Record what happened to a fact, and which version came of it."""
        self._add(type, SubjectKind.FACT, item_id=fact_id, version=version)

    def episode(self, type: ChangeType, session_id: str, episode_id: str) -> None:
        """Record what happened to an episode."""
        self._add(type, SubjectKind.EPISODE, session_id, item_id=episode_id)

    def _add(
        self,
        type: ChangeType,
        subject: SubjectKind,
        session_id: str = "",
        *,
        item_id: str = "",
        version: int = 0,
        snapshot: bytes | None = None,
    ) -> None:
        self._number += 1
        row = {
            "user_key": self.user_key,
            "revision": self.revision,
            "now": self.now,
            "number": self._number,
            "type": int(type),
            "subject": int(subject),
            "session_id": session_id,
            "item_id": item_id,
            "version": version,
            "snapshot": snapshot,
        }
        self._tx.execute_many(
            "INSERT INTO changes (user_key, user_revision, number, type, subject, session_id, "
            "item_id, version, snapshot, time) VALUES (:user_key, :revision, :number, :type, "
            ":subject, :session_id, :item_id, :version, :snapshot, :now)",
            [row],
        )


def session_as_of(tx: Transaction, scope: Scope, session_id: str, revision: int) -> Session:
    """Return a session as the write that made a revision of its user left it.

    Raises:
        NotFound: SESSION_NOT_FOUND, it has been deleted since.
    """
    rows = tx.execute(
        "SELECT c.snapshot FROM changes c JOIN users u ON u.user_key = c.user_key "
        "WHERE u.tenant = :tenant AND u.user_id = :user_id AND c.user_revision = :revision "
        "AND c.session_id = :session_id AND c.snapshot IS NOT NULL",
        {
            "tenant": scope.tenant,
            "user_id": scope.user_id,
            "revision": revision,
            "session_id": session_id,
        },
    )
    if not rows:
        raise NotFound(Reason.SESSION_NOT_FOUND, "session", session_id)
    return to_session(unpack(bytes(rows[0][0])))


class SqlChangeStore:
    """Implements `memory.watch.ChangeStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def latest_position(self, scope: Scope) -> Position:
        """See `ChangeStore`."""

        def work(tx: Transaction) -> Position:
            user = find_user(tx, scope)
            if user is not None:
                return _end_of(user[1])
            before = erased_revision(tx, erased_digest(tx, scope))
            return _end_of(before) if before else Position(0, 0)

        return await self._database.read(work)

    async def changes_after(
        self, scope: Scope, position: Position, *, session_id: str, limit: int
    ) -> tuple[tuple[Change, ...], Position]:
        """See `ChangeStore`."""

        def work(tx: Transaction) -> tuple[tuple[Change, ...], Position]:
            rows = tx.execute(
                "SELECT user_key, revision, pruned_revision FROM users "
                "WHERE tenant = :tenant AND user_id = :user_id",
                {"tenant": scope.tenant, "user_id": scope.user_id},
            )
            if not rows:
                _check_not_erased(position, erased_revision(tx, erased_digest(tx, scope)))
                return (), position
            user_key, revision, pruned = rows[0]
            if pruned and position.revision <= pruned:
                _check_not_erased(position, erased_revision(tx, erased_digest(tx, scope)))
                raise OutOfRange(
                    Reason.RESUME_TOKEN_EXPIRED,
                    f"resume_token: it is older than the {KEPT_DAYS} days that changes are kept",
                )
            return _after(tx, user_key, position, revision, session_id, limit)

        return await self._database.read(work)


def _check_not_erased(position: Position, erased: int) -> None:
    """Refuse to go on from before the user was erased: what was seen is gone, all of it."""
    if erased and position.revision <= erased:
        raise OutOfRange(
            Reason.RESUME_TOKEN_EXPIRED,
            "resume_token: the user was erased since; forget what is known and watch without it",
        )


def _end_of(revision: int) -> Position:
    """Return the position after every change of a revision."""
    return Position(revision + 1, 0)


# Changes are `c`, messages `m`; a filter by session is added to each.
_CHANGES_OF_SESSION = "AND c.session_id = :session_id "
_MESSAGES_OF_SESSION = (
    "AND m.session_key = (SELECT session_key FROM sessions "
    "WHERE user_key = :user_key AND session_id = :session_id) "
)

# A forgotten fact's id may be used again; a change from before that is of the forgotten one.
_FORGOTTEN = (
    "SELECT item_id, MAX(user_revision) FROM tombstones WHERE user_key = :user_key "
    f"AND user_revision > :since AND kind = {int(MemoryKind.FACT)} AND item_id IN (SELECT item_id "
    "FROM changes WHERE user_key = :user_key AND user_revision BETWEEN :since AND :last "
    f"AND subject = {int(SubjectKind.FACT)}) GROUP BY item_id"
)


def _after(
    tx: Transaction, user_key: int, position: Position, revision: int, session_id: str, limit: int
) -> tuple[tuple[Change, ...], Position]:
    """Read whole revisions, so that what is read of the two tables ends at the same one."""
    params = {
        "user_key": user_key,
        "since": position.revision,
        "limit": limit,
        "session_id": session_id,
    }
    changes_, messages_ = (_CHANGES_OF_SESSION, _MESSAGES_OF_SESSION) if session_id else ("", "")
    revisions = (
        "SELECT c.user_revision, COALESCE(LENGTH(c.snapshot), 0) AS size FROM changes c "
        f"WHERE c.user_key = :user_key AND c.user_revision >= :since {changes_}"
        f"UNION ALL SELECT m.user_revision, {TOKEN_BYTES} * m.token_count FROM messages m "
        "WHERE m.user_key = :user_key "
        f"AND m.user_revision >= :since {messages_}ORDER BY user_revision LIMIT :limit"
    )
    page = tx.execute(revisions, params)
    if not page:
        return (), max(position, _end_of(revision))
    sizes = accumulate(size for _, size in page)
    room = sum(size < PAGE_BYTES for size in sizes) + 1
    full = len(page) == limit or len(page) > room
    last = page[:room][-1][0]
    params["last"] = last
    messages = tx.execute(
        f"SELECT {MESSAGE_COLUMNS}, s.session_id, m.user_revision FROM messages m "
        "JOIN sessions s ON s.session_key = m.session_key WHERE m.user_key = :user_key "
        f"AND m.user_revision BETWEEN :since AND :last {messages_}"
        "ORDER BY m.user_revision, m.sequence",
        params,
    )
    others = tx.execute(
        "SELECT c.user_revision, c.number, c.type, c.subject, c.session_id, c.item_id, c.version, "
        "c.snapshot, c.time FROM changes c WHERE c.user_key = :user_key "
        f"AND c.user_revision BETWEEN :since AND :last {changes_}",
        params,
    )
    gone = dict(tx.execute(_FORGOTTEN, params)) if any(map(_of_fact, others)) else {}
    found = [*_messages(messages), *(_other(tx, user_key, row, gone) for row in others)]
    new = sorted((c for c in found if c.position > position), key=lambda c: c.position)
    end = max(position, _end_of(last if full else revision))
    if full and not new:
        # The page held only what the reader had seen of its revision.
        return _after(tx, user_key, end, revision, session_id, limit)
    return tuple(new), end


def _messages(rows: list[Row]) -> list[Change]:
    found: list[Change] = []
    for row in rows:
        message = to_message(row[-2], row[:-2])
        same = found and found[-1].position.revision == row[-1]
        number = found[-1].position.number + 1 if same else 1
        position = Position(row[-1], number)
        found.append(Change(position, ChangeType.CREATED, message.create_time, message))
    return found


def _of_fact(row: Row) -> bool:
    return bool(row[3] == SubjectKind.FACT)


def _other(tx: Transaction, user_key: int, row: Row, gone: Mapping[str, int]) -> Change:
    """Return a change of _after's columns; `gone` is when facts of its page were last forgotten."""
    revision, number, what, kind, session_id, item_id, version, snapshot, time = row
    subject: Any = Deleted(SubjectKind(kind), session_id, item_id)
    if what != ChangeType.DELETED:
        if kind == SubjectKind.SESSION and snapshot is not None:
            subject = to_session(unpack(bytes(snapshot)))
        elif kind == SubjectKind.FACT and revision > gone.get(item_id, 0):
            rows = tx.execute(
                f"SELECT {FACT_COLUMNS} FROM facts WHERE user_key = :user_key "
                "AND fact_id = :fact_id AND version = :version",
                {"user_key": user_key, "fact_id": item_id, "version": version},
            )
            subject = to_fact(rows[0]) if rows else subject
        elif kind == SubjectKind.EPISODE:
            rows = tx.execute(
                f"SELECT {EPISODE_COLUMNS} FROM episodes e "
                "JOIN sessions s ON s.session_key = e.session_key "
                "WHERE e.user_key = :user_key AND e.episode_id = :episode_id",
                {"user_key": user_key, "episode_id": item_id},
            )
            subject = to_episode(rows[0]) if rows else subject
    time_ = from_microseconds(time)
    return Change(Position(revision, number), ChangeType(what), time_, subject)

"""Deleting a session: it, and what was drawn from it alone."""

from recollect_server.memory.model import MemoryKind
from recollect_server.memory.watch import ChangeType
from recollect_server.stores.codec import pack, unpack
from recollect_server.stores.sql.changes import ChangeLog
from recollect_server.stores.sql.database import Transaction
from recollect_server.stores.sql.fact_notices import note_facts, note_session
from recollect_server.stores.sql.pending import bury, forget_pending

_TABLES = (
    "messages",
    "message_vectors",
    "pending_vectors",
    "turns",
    "turn_events",
    "turn_queue",
    "episodes",
    "jobs",
    "sessions",
)


def delete_session(tx: Transaction, changes: ChangeLog, session_key: int, session_id: str) -> None:
    """Delete a session with its messages, vectors, episodes, turns and jobs, and its only facts.

    Facts that have other sources too lose this one.

    Args:
        changes: of the user and the revision that the deletion makes.
    """
    user_key, revision = changes.user_key, changes.revision
    here = {"user_key": user_key, "session_key": session_key}
    turns = tx.execute("SELECT message_id FROM messages WHERE session_key = :session_key", here)
    bury(tx, user_key, revision, MemoryKind.TURN, [row[0] for row in turns])
    episodes = tx.execute("SELECT episode_id FROM episodes WHERE session_key = :session_key", here)
    bury(tx, user_key, revision, MemoryKind.EPISODE, [row[0] for row in episodes])
    for table in _TABLES:
        tx.execute(
            f"DELETE FROM {table} WHERE user_key = :user_key AND session_key = :session_key", here
        )
    facts = tx.execute(
        "SELECT fact_id, sources FROM facts WHERE user_key = :user_key AND is_current = 1",
        {"user_key": user_key},
    )
    orphans: list[str] = []
    for fact_id, data in facts:
        sources = unpack(data)
        left = [source for source in sources if source[0] != session_id]
        if sources and not left:
            orphans.append(fact_id)
        elif len(left) < len(sources):
            tx.execute(
                "UPDATE facts SET sources = :sources WHERE user_key = :user_key "
                "AND fact_id = :fact_id AND is_current = 1",
                {"sources": pack(left), "user_key": user_key, "fact_id": fact_id},
            )
    bury(tx, user_key, revision, MemoryKind.FACT, orphans)
    note_facts(tx, user_key, revision, orphans, changes.now)
    note_session(tx, user_key, revision, session_id, changes.now)
    for fact_id in orphans:
        forget_pending(tx, user_key, MemoryKind.FACT, fact_id)
        tx.execute(
            "DELETE FROM facts WHERE user_key = :user_key AND fact_id = :fact_id",
            {"user_key": user_key, "fact_id": fact_id},
        )
        changes.fact(ChangeType.DELETED, fact_id)
    for (episode_id,) in episodes:
        changes.episode(ChangeType.DELETED, session_id, episode_id)
    changes.session_deleted(session_id)

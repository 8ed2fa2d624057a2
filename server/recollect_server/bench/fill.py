"""Fills a database through the SQL layer, as if its users had talked for long.

What it leaves is what a server leaves once its worker is done: messages with their vectors, and
nothing to embed or to summarise. The vectors are random directions: they cost what real ones cost
but mean nothing.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import numpy as np

from recollect_server.bench.texts import Texts
from recollect_server.memory.due import DuePolicy
from recollect_server.memory.model import NewMessage, NewSession, Role, TextPart
from recollect_server.models.minilm import MiniLmEmbedder
from recollect_server.scope import Scope
from recollect_server.stores.sql.database import Transaction
from recollect_server.stores.sql.messages import append
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.sql.rows import pack_vector
from recollect_server.stores.sql.sessions import SqlSessionStore
from recollect_server.stores.sql.sqlite import SqliteDatabase

TENANT = "default"
SESSIONS_A_USER = 2
MESSAGES_AN_APPEND = 2
USERS_A_COMMIT = 50


@dataclass(frozen=True, slots=True)
class Fill:
    """What to put into a database.

    Attributes:
        messages: shared evenly among the users' sessions, at least one each.
        users: each has `SESSIONS_A_USER` sessions.
    """

    messages: int
    users: int


def user_name(number: int) -> str:
    """Return the id of a user, who is counted from 0."""
    return f"user-{number:07}"


def session_name(number: int) -> str:
    """Return the id of a user's session, which is counted from 0."""
    return f"session-{number}"


def fill(path: Path, wanted: Fill, progress: Callable[[int, int], None]) -> int:
    """Create a SQLite file, fill it and return its size in bytes.

    Args:
        progress: called with the messages done and to do.

    Raises:
        FileExistsError: there is a file already.
        OSError: it cannot be written.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists: the benchmark fills a file of its own")
    migrate(path)
    asyncio.run(_fill(path, wanted, progress))
    beside = (Path(f"{path}{suffix}") for suffix in ("", "-wal"))
    return sum(file.stat().st_size for file in beside if file.exists())


async def _fill(path: Path, wanted: Fill, progress: Callable[[int, int], None]) -> None:
    # Nothing here needs to survive a power cut, so nothing waits for the disk.
    database = SqliteDatabase(path, "OFF")
    now = datetime.now(UTC)
    sessions = SqlSessionStore(database, lambda: now, DuePolicy())
    texts = Texts(2)
    random = np.random.default_rng(2)
    done = 0
    try:
        for first in range(0, wanted.users, USERS_A_COMMIT):
            users = range(first, min(first + USERS_A_COMMIT, wanted.users))
            for user in users:
                for number in range(SESSIONS_A_USER):
                    session = NewSession(session_name(number))
                    await sessions.create_session(Scope(TENANT, user_name(user)), session, None)
            work = partial(_talk, wanted=wanted, users=users, texts=texts, random=random, now=now)
            done += await database.write(work)
            progress(done, wanted.messages)
    finally:
        await database.close()


def _talk(
    tx: Transaction,
    *,
    wanted: Fill,
    users: Sequence[int],
    texts: Texts,
    random: np.random.Generator,
    now: datetime,
) -> int:
    """Append the messages of users, give them vectors, and return how many there were."""
    done = 0
    for user in users:
        scope = Scope(TENANT, user_name(user))
        for number in range(SESSIONS_A_USER):
            left = _share(wanted, user * SESSIONS_A_USER + number)
            done += left
            while left:
                size = min(left, MESSAGES_AN_APPEND)
                # The oldest is the furthest back, a minute a message.
                time = now - timedelta(minutes=left)
                append(tx, scope, session_name(number), _messages(texts, size), time, DuePolicy())
                left -= size
    _embed(tx, random)
    return done


def _share(wanted: Fill, session: int) -> int:
    """Return how many messages a session gets; sessions are counted over all users."""
    each, rest = divmod(wanted.messages, wanted.users * SESSIONS_A_USER)
    return each + (session < rest)


def _messages(texts: Texts, count: int) -> list[NewMessage]:
    roles = (Role.USER, Role.ASSISTANT)
    return [
        NewMessage(roles[position % 2], (TextPart(texts.message()),)) for position in range(count)
    ]


def _embed(tx: Transaction, random: np.random.Generator) -> None:
    """Do the embedding worker's part for everything that waits: the file is ours alone."""
    waiting = tx.execute(
        "SELECT session_key, sequence, user_key, user_revision FROM pending_vectors"
    )
    vectors = random.standard_normal((len(waiting), MiniLmEmbedder.dimensions), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    tx.execute_many(
        "INSERT INTO message_vectors (session_key, sequence, user_key, user_revision, model, "
        "vector) VALUES (:session_key, :sequence, :user_key, :user_revision, :model, :vector)",
        [
            {
                "session_key": session_key,
                "sequence": sequence,
                "user_key": user_key,
                "user_revision": user_revision,
                "model": MiniLmEmbedder.model,
                "vector": pack_vector(vector),
            }
            for (session_key, sequence, user_key, user_revision), vector in zip(
                waiting, vectors, strict=True
            )
        ],
    )
    tx.execute(
        "UPDATE embedding SET model = :model, checked_through = NULL",
        {"model": MiniLmEmbedder.model},
    )
    tx.execute("DELETE FROM pending_vectors")
    tx.execute("DELETE FROM jobs")
    tx.execute(
        "UPDATE sessions SET episode_through = last_sequence, "
        "extracted_through = last_sequence, open_tokens = 0, "
        "summary_through = last_sequence - :recent WHERE episode_through < last_sequence",
        {"recent": DuePolicy().summary_recent},
    )

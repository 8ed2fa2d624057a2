"""What the store suites share."""

import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from recollect_server.memory.due import DuePolicy
from recollect_server.memory.model import Appended, NewMessage, NewSession, Role, TextPart
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.sql.changes import SqlChangeStore
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.embedding_queue import SqlEmbeddingQueue
from recollect_server.stores.sql.episodes import SqlEpisodeStore
from recollect_server.stores.sql.facts import SqlFactStore
from recollect_server.stores.sql.indexing import SqlIndexSource
from recollect_server.stores.sql.jobs import SqlJobQueue
from recollect_server.stores.sql.keys import SqlApiKeyStore
from recollect_server.stores.sql.postgres import PostgresDatabase
from recollect_server.stores.sql.sessions import SqlSessionStore
from recollect_server.stores.sql.sqlite import SqliteDatabase
from recollect_server.stores.sql.turns import SqlTurnStore
from recollect_server.stores.sql.upkeep import SqlUpkeep

ADA = Scope("acme", "ada")
MODEL = "test-model"


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2026, 5, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass
class Stores:
    """Every store over one database."""

    database: Database
    clock: Clock = field(default_factory=Clock)
    policy: DuePolicy = field(default_factory=DuePolicy)

    def __post_init__(self) -> None:
        self.sessions = SqlSessionStore(self.database, self.clock, self.policy)
        self.facts = SqlFactStore(self.database, self.clock)
        self.source = SqlIndexSource(self.database, self.clock)
        self.queue = SqlEmbeddingQueue(self.database, self.clock)
        self.appended: list[tuple[Scope, str, Appended]] = []
        self.turns = SqlTurnStore(
            self.database, self.clock, self.policy, lambda *told: self.appended.append(told)
        )
        self.episodes = SqlEpisodeStore(self.database, self.clock)
        self.changes = SqlChangeStore(self.database)
        self.jobs = SqlJobQueue(self.database, self.clock)
        self.upkeep = SqlUpkeep(self.database, self.clock, self.policy)
        self.keys = SqlApiKeyStore(self.database, self.clock)

    async def session(self, session_id: str = "s", scope: Scope = ADA) -> None:
        await self.sessions.create_session(scope, NewSession(session_id), None)

    async def append(self, *texts: str, session_id: str = "s", scope: Scope = ADA, request=None):
        return await self.sessions.append_messages(
            scope,
            session_id,
            [message(text) for text in texts],
            request=request,
            expected_revision=None,
        )

    async def rows(self, sql: str) -> list[tuple]:
        """Return what a query of this test finds."""
        return await self.database.read(lambda tx: tx.execute(sql))

    async def texts(self, session_id: str = "s", scope: Scope = ADA, **bounds) -> list[str]:
        query = {"after": None, "before": None, "since": None, "newest_first": False} | bounds
        found = await self.sessions.list_messages(scope, session_id, limit=10_000, **query)
        return [m.text for m in found]


def open_database(location: str | Path) -> Database:
    """Open a database of either kind."""
    if isinstance(location, Path):
        return SqliteDatabase(location)
    return PostgresDatabase(location)


def message(text: str) -> NewMessage:
    """A user's message."""
    return NewMessage(Role.USER, (TextPart(text),))


def request(name: str, method: str = "AppendMessages", digest: bytes = b"digest") -> RequestKey:
    """An idempotent call."""
    return RequestKey(method, name, digest)


def start_writer(
    location: str | Path, name: str, count: int, *more: str, wrapper: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start a process that appends to the session `s`; see `writer.py`."""
    script = Path(__file__).parent / "writer.py"
    return subprocess.Popen(
        [*wrapper, sys.executable, str(script), str(location), name, str(count), *more],
        stdout=subprocess.PIPE,
        text=True,
    )

"""Texts planted in every place that holds people's data, and searches of the places themselves."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import valkey
from tests.harness import RunningServer, eventually

from recollect import errors
from recollect.v1 import cache_pb2, common_pb2, memory_pb2

MARK = "zqx"


@dataclass
class Planted:
    """A user whose every text and id holds a mark of the user's own."""

    name: str = "user"
    mark: str = field(default_factory=lambda: MARK + uuid.uuid4().hex[:12])

    @property
    def user(self) -> str:
        return f"{self.name}-{self.mark}@example.org"

    def text(self, what: str) -> str:
        return f"{what} {self.mark} {what}"

    def plant(self, server: RunningServer, messages: int = 14) -> dict[str, Any]:
        """Use every call that keeps something."""
        session, ephemeral = f"s-{self.mark}", f"e-{self.mark}"
        with server.client(self.user, timeout=60) as client:
            client.memory.create_session(
                session_id=session,
                title=self.text("title"),
                metadata={"note": self.text("metadata")},
            )
            for number in range(messages):
                self.append(client, session, number)
            client.memory.append_messages(
                session, [self.text("repeated")], request_id=str(uuid.uuid4())
            )
            client.memory.clear_session(session)
            client.memory.append_messages(session, [self.text("after")])
            client.memory.create_session(
                session_id=ephemeral, retention=memory_pb2.RETENTION_EPHEMERAL
            )
            client.memory.append_messages(ephemeral, [self.text("ephemeral")])
            facts = [
                memory_pb2.NewFact(
                    text=self.text(f"fact {n}"),
                    fact_id=f"f{n}-{self.mark}",
                    metadata={"note": self.text("fact metadata")},
                )
                for n in range(4)
            ]
            stored = client.memory.remember(facts)
            client.memory.update_fact(facts[0].fact_id, text=self.text("changed"))
            client.memory.forget_fact(facts[1].fact_id)
            for scope in (
                cache_pb2.CACHE_SCOPE_USER,
                cache_pb2.CACHE_SCOPE_SESSION,
                cache_pb2.CACHE_SCOPE_GLOBAL,
            ):
                entry = client.cache.store(
                    self.prompt("question"),
                    self.text("answer"),
                    scope=scope,
                    session_id=session if scope == cache_pb2.CACHE_SCOPE_SESSION else "",
                    tags=[self.mark],
                )
            client.cache.lookup(self.prompt("question"))
            client.cache.lookup(self.prompt("another question"))
            client.cache.report_feedback(
                entry.entry_id, self.prompt("other"), cache_pb2.VERDICT_WRONG
            )
            audited = memory_pb2.ContextOptions(profile=memory_pb2.CONTEXT_PROFILE_AUDIT)
            client.memory.get_context(session, query=self.text("query"), options=audited)
            client.memory.recall(self.mark, min_revision=stored.user_revision, timeout=60)
            client.chat.send(session, self.text("chat"))
        return {"session": session, "facts": [fact.fact_id for fact in facts]}

    def append(self, client: Any, session: str, number: int) -> None:
        client.memory.append_messages(
            session,
            [
                memory_pb2.NewMessage(
                    role=common_pb2.ROLE_USER,
                    parts=[common_pb2.ContentPart(text=self.text(f"message {number}"))],
                    author_name=self.mark,
                    metadata={"note": self.text("message metadata")},
                    external_id=f"x{number}-{self.mark}",
                )
            ],
        )

    def prompt(self, what: str) -> common_pb2.Prompt:
        text = common_pb2.ContentPart(text=self.text(what))
        message = common_pb2.PromptMessage(role=common_pb2.ROLE_USER, parts=[text])
        return common_pb2.Prompt(model="m", messages=[message])


def in_files(folder: Path, mark: str) -> list[str]:
    """Return the files below a folder whose bytes hold a mark."""
    data = mark.encode()
    return [
        str(file.relative_to(folder))
        for file in sorted(folder.rglob("*"))
        if file.is_file() and data in file.read_bytes()
    ]


def in_postgres(url: str, mark: str) -> list[str]:
    """Return the tables of a database that hold a mark, as text or in bytes."""
    found = []
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        for (table,) in tables:
            query = f'SELECT COUNT(*) FROM "{table}" AS t WHERE t::text LIKE %s OR t::text LIKE %s'
            values = (f"%{mark}%", f"%{mark.encode().hex()}%")
            if connection.execute(query, values).fetchone() != (0,):
                found.append(table)
    return found


def in_valkey(url: str, *marks: bytes) -> list[bytes]:
    """Return the keys of a server that hold a mark, in their names or values."""
    client = valkey.Valkey.from_url(url)
    found = []
    try:
        for key in client.scan_iter(count=1000):
            value = _value(client, key)
            if any(mark in key or mark in value for mark in marks):
                found.append(key)
    finally:
        client.close()
    return found


def _value(client: Any, key: bytes) -> bytes:
    match client.type(key):
        case b"string":
            return client.get(key) or b""
        case b"hash":
            return b"\n".join(part for pair in client.hgetall(key).items() for part in pair)
        case b"list":
            return b"\n".join(client.lrange(key, 0, -1))
        case b"zset":
            return b"\n".join(client.zrange(key, 0, -1))
        case b"set":
            return b"\n".join(client.smembers(key))
    return b""


def erased(server: RunningServer, user: str, **more: Any) -> Any:
    """Erase a user, however often it takes, and return the receipt."""

    def complete() -> Any:
        try:
            with server.client(timeout=60) as client:
                receipt = client.admin.erase_user(user, **more)
        except errors.DeadlineExceeded:
            return None
        return receipt if receipt.complete else None

    return eventually(complete, 120)

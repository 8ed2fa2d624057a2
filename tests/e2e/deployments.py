"""Servers that share a database and a Valkey, and readers of a watch."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from tests.harness import RunningServer
from tests.postgres_server import PostgresServer
from tests.stores.valkey.valkey_server import Server as Valkey

from recollect.v1 import memory_pb2, memory_pb2_grpc


@dataclass
class Pair:
    """Two servers of one database and one Valkey."""

    one: RunningServer
    other: RunningServer
    valkey: Valkey
    database_url: str


@contextmanager
def pair_on(
    kind: str, folder: Path, postgres: PostgresServer, *flags: str, **environment: str
) -> Iterator[Pair]:
    """Start two servers on one database of a kind, `sqlite` or `postgres`."""
    url = database_url(kind, folder, postgres)
    with ExitStack() as stack:
        valkey = Valkey()
        stack.callback(valkey.close)
        valkey.start()
        shared = {"VALKEY_URL": valkey.url("valkey"), **environment}
        one, other = (
            stack.enter_context(RunningServer("--database-url", url, *flags, environment=shared))
            for _ in range(2)
        )
        yield Pair(one, other, valkey, url)


def database_url(kind: str, folder: Path, postgres: PostgresServer) -> str:
    """Return the URL of a new database."""
    if kind == "postgres":
        return postgres.create("recollect")
    return f"sqlite:///{folder / 'shared.db'}"


@contextmanager
def opened(server: RunningServer, user_id: str, **more: str) -> Iterator[Any]:
    """Give a raw Watch that has begun, by the stub alone."""
    with grpc.insecure_channel(server.address) as channel:
        request = memory_pb2.WatchRequest(user_id=user_id, **more)
        call = memory_pb2_grpc.MemoryServiceStub(channel).Watch(request)
        call.initial_metadata()
        yield call
        call.cancel()


def token_of_now(server: RunningServer, user_id: str, session_id: str = "") -> str:
    """Return where a watch that is opened now begins."""
    with opened(server, user_id, session_id=session_id) as call:
        return str(next(call).resume_token)


@dataclass
class Reader:
    """Collects the changes of a stream in a thread, until it ends or `stop`."""

    changes: Callable[[], Iterator[memory_pb2.WatchResponse]]
    seen: list[memory_pb2.WatchResponse] = field(default_factory=list)
    failure: Exception | None = None

    def __post_init__(self) -> None:
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for change in self.changes():
                self.seen.append(change)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.failure = error

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive()


@contextmanager
def reading(server: RunningServer, user_id: str, **more: Any) -> Iterator[Reader]:
    """Read what the Python client's watch yields, meanwhile."""
    more.setdefault("resume_token", token_of_now(server, user_id, more.get("session_id", "")))
    client = server.client(user_id)
    reader = Reader(lambda: client.memory.watch(**more))
    try:
        yield reader
    finally:
        client.close()


def said(change: memory_pb2.WatchResponse) -> str:
    """Return the text of a change to a message."""
    return change.message.parts[0].text if change.HasField("message") else ""


def texts(changes: Iterable[memory_pb2.WatchResponse]) -> Iterator[str]:
    """Yield the texts of the messages among changes."""
    return (said(change) for change in changes if change.HasField("message"))

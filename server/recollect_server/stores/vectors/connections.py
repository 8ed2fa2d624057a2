"""The vector stores that this process talks to, by their URLs."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from recollect_server.errors import InvalidArgument
from recollect_server.memory.vector_store import VectorStore
from recollect_server.stores.pgvector.store import PgVectorStore
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.vector_outbox import PGVECTOR_URL

SCHEMES = (
    "exact:",
    PGVECTOR_URL,
    "chroma+http://",
    "chroma+https://",
    "chroma:///",
    "qdrant+http://",
    "qdrant+https://",
    "qdrant+grpc://",
    "qdrant:///",
)
"""What the URL of a store starts with."""


class VectorConnections:
    """Implements `memory.vector_store.OpenVectorStore`; stores of one URL share a client.

    Args:
        database: where SQL is, which is where pgvector is.
        api_key: for servers of Chroma and Qdrant; "" for none.
    """

    def __init__(self, database: Database, *, postgres: bool, api_key: str = "") -> None:
        self._database = database
        self._postgres = postgres
        self._api_key = api_key
        self._clients: dict[str, Any] = {}

    def __call__(self, url: str, name: str, dimensions: int) -> VectorStore:
        """See `OpenVectorStore`."""
        check_url(url)
        if url == PGVECTOR_URL:
            if not self._postgres:
                raise InvalidArgument("target", "pgvector needs the database to be PostgreSQL")
            return PgVectorStore(self._database, name, dimensions)
        store: VectorStore
        if url.startswith("chroma"):
            store = self._client(url, _chroma).store(name)
        else:
            store = self._client(url, _qdrant).store(name, dimensions)
        return store

    async def close(self) -> None:
        """Let go of all clients."""
        while self._clients:
            _, client = self._clients.popitem()
            await client.close()

    def _client(self, url: str, connect: Callable[[str, str], Any]) -> Any:
        if url not in self._clients:
            try:
                self._clients[url] = connect(url, self._api_key)
            except ModuleNotFoundError as error:
                extra = url.partition(":")[0].partition("+")[0]
                raise InvalidArgument(
                    "target", f"needs {error.name}: install recollect-server[{extra}]"
                ) from None
        return self._clients[url]


def check_url(url: str) -> None:
    """Refuse what is no URL of a store.

    Raises:
        InvalidArgument: `target`, saying what would be right.
    """
    if url in ("exact:", PGVECTOR_URL):
        return
    if not url.startswith(SCHEMES[2:]):
        raise InvalidArgument("target", f"must start with one of {', '.join(SCHEMES)}")
    try:
        parts = urlsplit(url)
        good = parts.port is None or parts.port > 0
    except ValueError:
        good = False
    if not good or (not parts.hostname and len(parts.path) < 2):
        raise InvalidArgument("target", "must be a URL with a host, or the path of a folder")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidArgument(
            "target", "must hold no credentials and no query; see vector_store_api_key"
        )


def _chroma(url: str, api_key: str) -> Any:
    from recollect_server.stores.chroma import ChromaConnection

    return ChromaConnection(url, api_key)


def _qdrant(url: str, api_key: str) -> Any:
    from recollect_server.stores.qdrant import QdrantConnection

    return QdrantConnection(url, api_key)

"""A collection of Chroma as a `VectorStore`.

Importing Chroma takes more than a second and its install 370 MB, so it is an extra, imported when a
store is opened. Over HTTP the small package `chromadb-client` does as well.
"""

import contextlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import Any
from urllib.parse import urlsplit

from recollect_server.memory.model import MemoryKind, Vector
from recollect_server.memory.vector_store import ItemKey, VectorFilter, VectorHit, VectorPoint
from recollect_server.scope import Scope
from recollect_server.stores.codec import to_microseconds
from recollect_server.stores.remote import CALL_SECONDS, SEARCH_SECONDS, Calls
from recollect_server.stores.vector_ids import (
    item_digest,
    named_payload,
    owner_digest,
    passages,
    session_digest,
)

HNSW = {"space": "ip", "max_neighbors": 16, "ef_construction": 100, "ef_search": 1000}
"""Inner product of unit vectors is their cosine. A search that visits fewer points misses an item
unlike all others of the user, to which few edges of the graph lead; see docs/vector-stores.md."""

BATCH = 1000
"""Points or items of one call; Chroma takes some thousands."""


class ChromaConnection:
    """A client, connected at its first use.

    Args:
        url: `chroma+http://HOST:PORT`, `chroma+https://...`, or `chroma:///PATH` for a folder of
            this process alone.
        api_key: sent to a server as `x-chroma-token`; "" for none.

    Raises:
        ModuleNotFoundError: the extra `chroma` is not installed.
    """

    def __init__(self, url: str, api_key: str) -> None:
        import chromadb
        from chromadb.config import Settings

        self._chromadb = chromadb
        self._settings = Settings(anonymized_telemetry=False)
        self._url = urlsplit(url.removeprefix("chroma+"))
        self._api_key = api_key
        self._embedded = self._url.scheme == "chroma"
        self._client: Any = None
        self.calls = Calls("chroma", blocking=self._embedded)

    async def client(self) -> Any:
        """Return the client; its methods block if the store is embedded, or give awaitables."""
        if self._client is None:
            connect = self._open_folder if self._embedded else self._connect
            self._client = await self.calls.run(connect)
        return self._client

    def store(self, name: str) -> "ChromaStore":
        """Return the collection of a name."""
        return ChromaStore(self, name)

    async def close(self) -> None:
        """Let go of the folder or the server."""
        client, self._client = self._client, None
        if client is not None and self._embedded:
            await self.calls.run(client.close)
        elif client is not None:
            # The asynchronous client has no public way to close its connections.
            await client._server.__aexit__(None, None, None)
        self.calls.close()

    def _open_folder(self) -> Any:
        return self._chromadb.PersistentClient(self._url.path, settings=self._settings)

    async def _connect(self) -> Any:
        secure = self._url.scheme == "https"
        return await self._chromadb.AsyncHttpClient(
            host=self._url.hostname or "localhost",
            port=self._url.port or (443 if secure else 8000),
            ssl=secure,
            headers={"x-chroma-token": self._api_key} if self._api_key else None,
            settings=self._settings,
        )


class ChromaStore:
    """Implements `memory.vector_store.VectorStore`.

    Args:
        name: of the collection.
    """

    def __init__(self, connection: ChromaConnection, name: str) -> None:
        self._connection = connection
        self._calls = connection.calls
        self._name = name
        self._collection: Any = None

    async def exists(self) -> bool:
        """See `VectorStore`."""
        try:
            await self._open(expected=(_errors().NotFoundError,))
        except _errors().NotFoundError:
            self._collection = None
            return False
        return True

    async def create(self) -> None:
        """See `VectorStore`."""
        client = await self._connection.client()
        self._collection = await self._calls.run(
            lambda: client.get_or_create_collection(
                self._name, configuration={"hnsw": HNSW}, embedding_function=None
            )
        )

    async def upsert(self, scope: Scope, points: Sequence[VectorPoint]) -> None:
        """See `VectorStore`."""
        if not points:
            return
        await self._delete_beyond(passages(scope, points))
        for start in range(0, len(points), BATCH):
            batch = points[start : start + BATCH]
            ids, metadatas = zip(*(named_payload(scope, p) for p in batch), strict=True)
            vectors = [p.vector.tolist() for p in batch]
            upsert = methodcaller(
                "upsert", ids=list(ids), embeddings=vectors, metadatas=list(metadatas)
            )
            await self._run(upsert)

    async def delete(self, scope: Scope, keys: Sequence[ItemKey]) -> None:
        """See `VectorStore`."""
        await self._delete_beyond(dict.fromkeys((item_digest(scope, *key) for key in keys), 0))

    async def delete_user(self, scope: Scope) -> None:
        """See `VectorStore`. In pages: Chroma takes up to a millisecond a point, and a call that
        takes too long is given up.
        """
        page = methodcaller("get", where={"owner": owner_digest(scope)}, limit=BATCH, include=[])
        while ids := (await self._run(page))["ids"]:
            await self._run(methodcaller("delete", ids=ids))

    async def search(
        self, scope: Scope, vector: Vector, filter: VectorFilter, limit: int
    ) -> tuple[VectorHit, ...]:
        """See `VectorStore`."""
        query = methodcaller(
            "query",
            query_embeddings=[vector.tolist()],
            n_results=limit,
            where=_where(scope, filter),
            include=["metadatas", "distances"],
        )
        found = await self._run(query, SEARCH_SECONDS)
        return tuple(
            VectorHit(MemoryKind(data["kind"]), data["item_id"], data["passage"], 1 - distance)
            for data, distance in zip(found["metadatas"][0], found["distances"][0], strict=True)
        )

    async def count(self, scope: Scope) -> int:
        """See `VectorStore`."""
        get = methodcaller("get", where={"owner": owner_digest(scope)}, include=[])
        found = await self._run(get)
        return len(found["ids"])

    async def drop(self) -> None:
        """See `VectorStore`."""
        with contextlib.suppress(_errors().NotFoundError):
            client = await self._connection.client()
            await self._calls.run(
                lambda: client.delete_collection(self._name),
                expected=(_errors().NotFoundError,),
            )
        self._collection = None

    async def _delete_beyond(self, passages: dict[str, int]) -> None:
        """Delete the points of items from a passage on, 0 for all."""
        by_count: dict[int, list[str]] = defaultdict(list)
        for item, count in passages.items():
            by_count[count].append(item)
        for count, items in by_count.items():
            for start in range(0, len(items), BATCH):
                where: dict[str, Any] = {"item": {"$in": items[start : start + BATCH]}}
                if count:
                    where = {"$and": [where, {"passage": {"$gte": count}}]}
                await self._run(methodcaller("delete", where=where))

    async def _run(self, call: Callable[[Any], Any], seconds: float = CALL_SECONDS) -> Any:
        """Run a call on the collection, which has another id if it was lost and made anew."""
        missing = _errors().NotFoundError
        collection = await self._get()
        try:
            return await self._calls.run(lambda: call(collection), seconds, expected=(missing,))
        except missing:
            self._collection = None
        anew = await self._get()
        return await self._calls.run(lambda: call(anew), seconds)

    async def _get(self) -> Any:
        if self._collection is None:
            await self._open()
        return self._collection

    async def _open(self, expected: tuple[type[Exception], ...] = ()) -> None:
        client = await self._connection.client()
        self._collection = await self._calls.run(
            lambda: client.get_collection(self._name, embedding_function=None), expected=expected
        )


def _errors() -> Any:
    from chromadb import errors

    return errors


def _where(scope: Scope, filter: VectorFilter) -> dict[str, Any]:
    clauses: list[dict[str, Any]] = [
        {"owner": owner_digest(scope)},
        {"kind": {"$in": sorted(int(kind) for kind in filter.kinds)}},
    ]
    if filter.session_ids:
        sessions = sorted(session_digest(scope, session) for session in filter.session_ids)
        clauses.append({"session": {"$in": sessions}})
    if filter.start is not None:
        clauses.append({"time": {"$gte": to_microseconds(filter.start)}})
    if filter.end is not None:
        clauses.append({"time": {"$lt": to_microseconds(filter.end)}})
    return {"$and": clauses}

"""A collection of Qdrant as a `VectorStore`.

The client is the extra `qdrant`, imported when a store is opened.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
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

LINKS = 16
"""Neighbours of a vector in the graph of its user's vectors."""
SEARCH_EF = 1000
"""Candidates that a search in the graph holds."""

BATCH = 500
_INDEXES = {"owner": "keyword", "session": "keyword", "item": "keyword"} | dict.fromkeys(
    ("kind", "time", "passage"), "integer"
)


class QdrantConnection:
    """A client.

    Args:
        url: `qdrant+http://HOST:PORT`, `qdrant+https://...`, `qdrant+grpc://HOST:PORT`, or
            `qdrant:///PATH` for the client's local mode: a folder of this process alone, exact
            and slow, for development.
        api_key: sent to a server; "" for none.

    Raises:
        ModuleNotFoundError: the extra `qdrant` is not installed.
    """

    def __init__(self, url: str, api_key: str) -> None:
        import qdrant_client

        parts = urlsplit(url.removeprefix("qdrant+"))
        self.local = parts.scheme == "qdrant"
        # The local mode is not made for several threads at a time.
        self.calls = Calls("qdrant", blocking=self.local, threads=1)
        self._client: Any = None
        self._open: Callable[[], Any]
        if self.local:
            self._open = lambda: qdrant_client.QdrantClient(path=parts.path)
            return
        grpc = parts.scheme == "grpc"
        host, port = parts.hostname or "localhost", parts.port or (6334 if grpc else 6333)
        self._client = qdrant_client.AsyncQdrantClient(
            host=host,
            port=6333 if grpc else port,
            grpc_port=port if grpc else 6334,
            prefer_grpc=grpc,
            https=parts.scheme == "https",
            api_key=api_key or None,
            timeout=int(CALL_SECONDS),
            check_compatibility=False,
        )

    async def client(self) -> Any:
        """Return the client; its methods block in the local mode, else they give awaitables."""
        if self._client is None:
            self._client = await self.calls.run(self._open)
        return self._client

    def store(self, name: str, dimensions: int) -> "QdrantStore":
        """Return the collection of a name."""
        return QdrantStore(self, name, dimensions)

    async def close(self) -> None:
        """Let go of the folder or the server."""
        client, self._client = self._client, None
        if client is not None:
            await self.calls.run(client.close)
        self.calls.close()


class QdrantStore:
    """Implements `memory.vector_store.VectorStore`.

    Args:
        name: of the collection.
        dimensions: length of a vector.
    """

    def __init__(self, connection: QdrantConnection, name: str, dimensions: int) -> None:
        self._connection = connection
        self._name = name
        self._dimensions = dimensions

    async def exists(self) -> bool:
        """See `VectorStore`."""
        found = await self._run(lambda client: client.collection_exists(self._name))
        return bool(found)

    async def create(self) -> None:
        """See `VectorStore`."""
        from qdrant_client import models

        if await self.exists():
            return
        await self._run(
            lambda client: client.create_collection(
                self._name,
                vectors_config=models.VectorParams(
                    size=self._dimensions, distance=models.Distance.DOT
                ),
                # A graph for each user's vectors, none for all of them: every search is a user's.
                hnsw_config=models.HnswConfigDiff(m=0, payload_m=LINKS, ef_construct=100),
            )
        )
        # The local mode searches all there is, and warns of whatever would make it quicker.
        for field, kind in () if self._connection.local else _INDEXES.items():
            schema: Any = kind
            if field == "owner":
                schema = models.KeywordIndexParams(
                    type=models.KeywordIndexType.KEYWORD, is_tenant=True
                )
            await self._index(field, schema)

    async def upsert(self, scope: Scope, points: Sequence[VectorPoint]) -> None:
        """See `VectorStore`."""
        from qdrant_client import models

        if not points:
            return
        await self._delete_beyond(passages(scope, points))
        for start in range(0, len(points), BATCH):
            structs = []
            for point in points[start : start + BATCH]:
                name, payload = named_payload(scope, point)
                structs.append(
                    models.PointStruct(id=name, vector=point.vector.tolist(), payload=payload)
                )
            await self._store(structs)

    async def delete(self, scope: Scope, keys: Sequence[ItemKey]) -> None:
        """See `VectorStore`."""
        await self._delete_beyond(dict.fromkeys((item_digest(scope, *key) for key in keys), 0))

    async def delete_user(self, scope: Scope) -> None:
        """See `VectorStore`."""
        await self._delete(_filter(scope))

    async def search(
        self, scope: Scope, vector: Vector, filter: VectorFilter, limit: int
    ) -> tuple[VectorHit, ...]:
        """See `VectorStore`."""
        from qdrant_client import models

        found = await self._run(
            lambda client: client.query_points(
                self._name,
                query=vector.tolist(),
                query_filter=_filter(scope, filter),
                search_params=None
                if self._connection.local
                else models.SearchParams(hnsw_ef=max(SEARCH_EF, limit)),
                limit=limit,
                with_payload=["item_id", "kind", "passage"],
            ),
            SEARCH_SECONDS,
        )
        return tuple(
            VectorHit(
                MemoryKind(point.payload["kind"]),
                point.payload["item_id"],
                point.payload["passage"],
                point.score,
            )
            for point in found.points
        )

    async def count(self, scope: Scope) -> int:
        """See `VectorStore`."""
        found = await self._run(
            lambda client: client.count(self._name, count_filter=_filter(scope), exact=True)
        )
        return int(found.count)

    async def drop(self) -> None:
        """See `VectorStore`."""
        await self._run(lambda client: client.delete_collection(self._name))

    async def _delete_beyond(self, passages: dict[str, int]) -> None:
        """Delete the points of items from a passage on, 0 for all."""
        from qdrant_client import models

        by_count: dict[int, list[str]] = defaultdict(list)
        for item, count in passages.items():
            by_count[count].append(item)
        for count, items in by_count.items():
            for start in range(0, len(items), BATCH):
                must: list[Any] = [
                    models.FieldCondition(
                        key="item", match=models.MatchAny(any=items[start : start + BATCH])
                    )
                ]
                if count:
                    # First, because the local mode stops at the first that fails.
                    beyond = models.Range(gte=count)
                    must.insert(0, models.FieldCondition(key="passage", range=beyond))
                await self._delete(models.Filter(must=must))

    async def _index(self, field: str, schema: Any) -> None:
        await self._run(
            lambda client: client.create_payload_index(
                self._name, field_name=field, field_schema=schema
            )
        )

    async def _store(self, structs: list[Any]) -> None:
        await self._run(lambda client: client.upsert(self._name, structs, wait=True))

    async def _delete(self, filter: Any) -> None:
        from qdrant_client import models

        selector = models.FilterSelector(filter=filter)
        await self._run(lambda client: client.delete(self._name, selector, wait=True))

    async def _run(self, call: Callable[[Any], Any], seconds: float = CALL_SECONDS) -> Any:
        client = await self._connection.client()
        return await self._connection.calls.run(lambda: call(client), seconds)


def _filter(scope: Scope, filter: VectorFilter | None = None) -> Any:
    from qdrant_client import models

    must: list[Any] = [
        models.FieldCondition(key="owner", match=models.MatchValue(value=owner_digest(scope)))
    ]
    if filter is not None:
        kinds = sorted(int(kind) for kind in filter.kinds)
        must.append(models.FieldCondition(key="kind", match=models.MatchAny(any=kinds)))
        if filter.session_ids:
            sessions = sorted(session_digest(scope, session) for session in filter.session_ids)
            must.append(models.FieldCondition(key="session", match=models.MatchAny(any=sessions)))
        if filter.start is not None or filter.end is not None:
            start = to_microseconds(filter.start) if filter.start is not None else None
            end = to_microseconds(filter.end) if filter.end is not None else None
            must.append(models.FieldCondition(key="time", range=models.Range(gte=start, lt=end)))
    return models.Filter(must=must)

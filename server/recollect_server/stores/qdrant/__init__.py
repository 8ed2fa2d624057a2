"""Qdrant: a server by HTTP or gRPC, or the client's own local mode."""

from recollect_server.stores.qdrant.store import QdrantConnection

__all__ = ["QdrantConnection"]

"""Recall over a vector store: candidates from the store, their order from SQL's own vectors."""

from recollect_server.stores.vectors.connections import VectorConnections
from recollect_server.stores.vectors.index import VectorIndex
from recollect_server.stores.vectors.switching import SwitchingIndex

__all__ = ["SwitchingIndex", "VectorConnections", "VectorIndex"]

"""Chroma: embedded in this process, or a server by HTTP."""

from recollect_server.stores.chroma.store import ChromaConnection

__all__ = ["ChromaConnection"]

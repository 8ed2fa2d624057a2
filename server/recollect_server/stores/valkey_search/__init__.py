"""Nearest entries of the answer cache by Valkey Search or RediSearch."""

from recollect_server.stores.valkey_search.choice import BestIndex
from recollect_server.stores.valkey_search.index import SearchIndex, has_search

__all__ = ["BestIndex", "SearchIndex", "has_search"]

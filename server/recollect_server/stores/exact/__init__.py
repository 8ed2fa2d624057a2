"""The exact index: every user's items in this process's memory, loaded from SQL on demand."""

from recollect_server.stores.exact.index import ExactIndex

__all__ = ["ExactIndex"]

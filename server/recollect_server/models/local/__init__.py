"""What embedders that compute in this process share: a thread, its batches, recent texts."""

from recollect_server.models.local._embedder import CACHED_TEXTS, LocalEmbedder
from recollect_server.models.local._worker import Encoder

__all__ = ["CACHED_TEXTS", "Encoder", "LocalEmbedder"]

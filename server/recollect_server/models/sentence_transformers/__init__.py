"""Any model of sentence-transformers. It needs the extra of that name, which brings torch."""

from recollect_server.models.sentence_transformers._embedder import (
    ModelNotLoaded,
    SentenceTransformersEmbedder,
)

__all__ = ["ModelNotLoaded", "SentenceTransformersEmbedder"]

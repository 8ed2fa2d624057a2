"""OpenAI, and whatever speaks its API, through its SDK."""

from recollect_server.models.openai._embedder import BASE_URL, EMBEDDING_MODEL, OpenAiEmbedder

__all__ = ["BASE_URL", "EMBEDDING_MODEL", "OpenAiEmbedder"]

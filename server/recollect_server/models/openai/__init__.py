"""OpenAI, and whatever speaks its API, through its SDK."""

from recollect_server.models.openai._chat import (
    DEFAULT_CHAT_MODEL,
    SMALL_CHAT_MODEL,
    OpenAiModel,
)
from recollect_server.models.openai._embedder import BASE_URL, EMBEDDING_MODEL, OpenAiEmbedder

__all__ = [
    "BASE_URL",
    "DEFAULT_CHAT_MODEL",
    "EMBEDDING_MODEL",
    "SMALL_CHAT_MODEL",
    "OpenAiEmbedder",
    "OpenAiModel",
]

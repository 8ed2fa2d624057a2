"""OpenAI, and whatever speaks its API, through its SDK."""

from recollect_server.models.openai._chat import (
    DEFAULT_CHAT_MODEL,
    SMALL_CHAT_MODEL,
    OpenAiModel,
)

__all__ = ["DEFAULT_CHAT_MODEL", "SMALL_CHAT_MODEL", "OpenAiModel"]

"""What conversation memory needs from the outside. Adapters live in `stores` and `models`."""

from recollect_server.memory.ports.embedding import EmbeddingBacklog, EmbeddingQueue, EmbeddingTask
from recollect_server.memory.ports.episodes import EpisodeStore
from recollect_server.memory.ports.facts import FactStore
from recollect_server.memory.ports.index import (
    IndexChanges,
    IndexItem,
    IndexResult,
    IndexSource,
    Ranked,
    RecallFilter,
    RecallIndex,
    ScoreTerm,
)
from recollect_server.memory.ports.models import Embedder, FactExtractor, Summarizer
from recollect_server.memory.ports.sessions import SessionStore
from recollect_server.memory.ports.windows import Window, WindowCache

__all__ = [
    "Embedder",
    "EmbeddingBacklog",
    "EmbeddingQueue",
    "EmbeddingTask",
    "EpisodeStore",
    "FactExtractor",
    "FactStore",
    "IndexChanges",
    "IndexItem",
    "IndexResult",
    "IndexSource",
    "Ranked",
    "RecallFilter",
    "RecallIndex",
    "ScoreTerm",
    "SessionStore",
    "Summarizer",
    "Window",
    "WindowCache",
]

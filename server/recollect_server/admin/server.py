"""What a server says of itself."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from recollect_server.memory.ports import EmbeddingBacklog


@dataclass(frozen=True, slots=True)
class StoreState:
    """A store the server uses; see `recollect.v1.StoreInfo`."""

    name: str
    kind: str
    available: bool


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What GetServerInfo tells; see `recollect.v1.GetServerInfoResponse`.

    Attributes:
        probe: asks each store whether it answers.
        backlog: counts a tenant's texts that wait for their vectors.
    """

    version: str
    chat_provider: str
    chat_model: str
    chat_notice: str
    embedding_model: str
    embedding_dimensions: int
    authentication: bool
    max_message_bytes: int
    max_request_bytes: int
    probe: Callable[[], Awaitable[tuple[StoreState, ...]]]
    backlog: Callable[[str], Awaitable[EmbeddingBacklog]]

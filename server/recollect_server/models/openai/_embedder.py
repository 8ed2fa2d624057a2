"""OpenAI's embedding models."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect_server.errors import InvalidArgument, Reason, RecollectError, Unavailable
from recollect_server.memory.tokens import estimate_text
from recollect_server.models.recent import RecentVectors

EMBEDDING_MODEL = "text-embedding-3-small"

BASE_URL = "https://api.openai.com/v1"

DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}
"""Length of the vectors of the models that are known."""

SHORTENED = "text-embedding-3-"
"""Models of this prefix answer with as many dimensions as they are asked for."""

# The API takes 8,191 tokens a text and 300,000 a request. Ours are estimates, hence the margins.
TEXT_TOKENS = 7_000
REQUEST_TOKENS = 200_000
REQUEST_TEXTS = 512
TEXT_CHARACTERS = 65_536
CERTAIN_BYTES = 8_191
"""No text of so many bytes has more tokens, as a token is a byte at least."""

RETRY_SECONDS = 1.0


class OpenAiEmbedder:
    """Implements `memory.ports.Embedder`.

    A text counts up to about its 7,000th token.

    Args:
        dimensions: length of the vectors; 0 means the model's own, if it is one of `DIMENSIONS`.
        background: embed what is stored: wait longer for an answer, keep no recent texts.

    Raises:
        ValueError: `dimensions` is 0 and the model's own is not known.
    """

    def __init__(
        self,
        api_key: str,
        *,
        model: str = EMBEDDING_MODEL,
        dimensions: int = 0,
        base_url: str = BASE_URL,
        background: bool = False,
    ) -> None:
        known = DIMENSIONS.get(model, 0)
        if not (dimensions or known):
            raise ValueError("the length of its vectors is not known, set embedding_dimensions")
        self.dimensions = dimensions or known
        self.model = f"openai:{model}"
        if self.dimensions != known:
            self.model += f"@{self.dimensions}"
        self._name = model
        self._api_key = api_key
        self._base_url = base_url
        self._seconds, self._retries = (60.0, 2) if background else (5.0, 1)
        kept = 0 if background else 1024
        self._recent = RecentVectors(self._compute, self.dimensions, kept)
        self._client: Any = None
        self._sdk: Any = None
        self._opening = asyncio.Lock()

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return an array of shape (len(texts), dimensions), rows of unit length, in order.

        Raises:
            Unavailable: the API does not answer, limits our rate, or refuses the key or the model.
            InvalidArgument: MODEL_REJECTED, it refuses a text.
        """
        return await self._recent.embed(texts)

    def expect(self, text: str) -> None:
        """Begin to embed a text that will be asked for in a moment."""
        self._recent.expect(text)

    async def _compute(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.concatenate([await self._ask(part) for part in _requests(texts)])

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _ask(self, texts: Sequence[str]) -> NDArray[np.float32]:
        heads = [_head(text) for text in texts]
        try:
            return await self._ask_once(heads)
        except InvalidArgument:
            certain = [_certain(head) for head in heads]
            if certain == heads:
                raise
            return await self._ask_once(certain)

    async def _ask_once(self, texts: Sequence[str]) -> NDArray[np.float32]:
        client = await self._open()
        request: dict[str, Any] = {"model": self._name, "input": texts}
        if self._name.startswith(SHORTENED):
            request["dimensions"] = self.dimensions
        try:
            async with asyncio.timeout(self._seconds):
                answer = await client.embeddings.create(**request)
        except TimeoutError as error:
            raise _unreachable() from error
        except self._sdk.OpenAIError as error:
            raise to_error(error) from error
        rows = sorted(answer.data, key=lambda row: row.index)
        if [len(row.embedding) for row in rows] != [self.dimensions] * len(texts):
            raise Unavailable(
                Reason.MODEL_REJECTED,
                f"the embedding API does not answer with {self.dimensions} numbers a text",
            )
        vectors = np.array([row.embedding for row in rows], np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: NDArray[np.float32] = vectors / np.maximum(lengths, np.float32(1e-12))
        return unit

    async def _open(self) -> Any:
        """Return the client; importing the SDK takes about a second, so not on the event loop."""
        async with self._opening:
            if self._client is None:
                self._sdk = await asyncio.to_thread(_import_sdk)
                self._client = self._sdk.AsyncOpenAI(
                    api_key=self._api_key,
                    base_url=self._base_url,
                    max_retries=self._retries,
                    timeout=self._seconds,
                )
        return self._client


def _import_sdk() -> Any:
    import openai

    return openai


def to_error(error: Any) -> RecollectError:
    """Return the domain's error for an `openai.OpenAIError`; none of its text is passed on."""
    status = getattr(error, "status_code", None)
    if status == 429:
        return Unavailable(
            Reason.MODEL_RATE_LIMITED, "the embedding API limits our rate", RETRY_SECONDS
        )
    if status in (401, 403):
        return Unavailable(Reason.MODEL_CREDENTIAL, "the embedding API refuses the server's key")
    if status == 404:
        return Unavailable(Reason.MODEL_REJECTED, "the embedding API does not know the model")
    if status in (400, 413, 422):
        return InvalidArgument("query", "the embedding API refuses the text", Reason.MODEL_REJECTED)
    return _unreachable()


def _unreachable() -> Unavailable:
    return Unavailable(
        Reason.MODEL_UNAVAILABLE, "the embedding API cannot be reached", RETRY_SECONDS
    )


def _requests(texts: Sequence[str]) -> Iterator[list[str]]:
    """Divide texts into requests that the API takes."""
    part: list[str] = []
    size = 0
    for text in texts:
        tokens = min(estimate_text(text[:TEXT_CHARACTERS]), TEXT_TOKENS)
        if part and (len(part) == REQUEST_TEXTS or size + tokens > REQUEST_TOKENS):
            yield part
            part, size = [], 0
        part.append(text)
        size += tokens
    if part:
        yield part


def _head(text: str) -> str:
    """Return what of a text the API takes, by an estimate. It takes no empty text."""
    head = text[:TEXT_CHARACTERS]
    while (tokens := estimate_text(head)) > TEXT_TOKENS:
        head = head[: min(len(head) * TEXT_TOKENS // tokens, len(head) - 1)]
    return head or " "


def _certain(text: str) -> str:
    """Return what of a text the API takes, whatever its tokenizer."""
    return text.encode()[:CERTAIN_BYTES].decode(errors="ignore")

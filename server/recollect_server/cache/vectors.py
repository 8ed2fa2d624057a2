"""Vectors of messages: each text is embedded once, though it is part of many contexts."""

import asyncio
import hashlib
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.dialogue import Dialogue
from recollect_server.memory.model import Vector
from recollect_server.memory.ports import Embedder

DEFAULT_TEXTS = 16_384
"""Vectors of so many recent texts are kept: 25 MB with 384 dimensions."""


class MessageVectors:
    """Embeds texts through a cache keyed by their digest, so that long texts take no memory.

    Args:
        kept: how many recent texts keep their vectors.
    """

    def __init__(self, embedder: Embedder, kept: int = DEFAULT_TEXTS) -> None:
        self._embedder = embedder
        self._kept = kept
        self._cache: OrderedDict[bytes, Vector] = OrderedDict()
        self._underway: dict[bytes, asyncio.Future[dict[bytes, Vector]]] = {}

    @property
    def model(self) -> str:
        """The embedder's name."""
        return self._embedder.model

    async def conversation(self, dialogue: Dialogue) -> Conversation:
        """Return a dialogue with its vectors. Raises `Unavailable` if the embedder is down."""
        vectors = await self.of(dialogue.texts)
        return Conversation(dialogue.roles, dialogue.texts, vectors, self.model)

    async def of(self, texts: tuple[str, ...]) -> NDArray[np.float32]:
        """Return an array of shape (len(texts), dimensions), rows of unit length.

        Raises:
            Unavailable: the embedder is down and a text is new.
        """
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
        known = {key: self._cache.get(key) for key in keys}
        # Lookups that overlap ask for the same messages: who comes first embeds them for all.
        new = {k: t for k, t in zip(keys, texts, strict=True) if known[k] is None}
        unasked = {key: text for key, text in new.items() if key not in self._underway}
        if unasked:
            made = asyncio.ensure_future(self._embed(unasked))
            # Whoever waited for it may have gone.
            made.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._underway |= dict.fromkeys(unasked, made)
        for key, embedding in {key: self._underway[key] for key in new}.items():
            known[key] = (await asyncio.shield(embedding))[key]
        result = np.empty((len(texts), self._embedder.dimensions), np.float32)
        for row, key in enumerate(keys):
            vector = known[key]
            assert vector is not None
            result[row] = vector
            self._keep(key, vector)
        return result

    async def _embed(self, texts: dict[bytes, str]) -> dict[bytes, Vector]:
        try:
            made = await self._embedder.embed(list(texts.values()))
            # Copies, because a row would keep its whole array alive.
            vectors = {key: row.copy() for key, row in zip(texts, made, strict=True)}
            for key, vector in vectors.items():
                self._keep(key, vector)
            return vectors
        finally:
            for key in texts:
                del self._underway[key]

    def _keep(self, key: bytes, vector: Vector) -> None:
        self._cache[key] = vector
        self._cache.move_to_end(key)
        if len(self._cache) > self._kept:
            self._cache.popitem(last=False)

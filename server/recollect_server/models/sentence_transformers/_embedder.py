"""Models of sentence-transformers as embedders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recollect_server.models.local import CACHED_TEXTS, LocalEmbedder

EXTRA = "recollect-server[sentence-transformers]"

# A guess, to group texts of like length: the library tokenises by itself.
_CHARACTERS_A_TOKEN = 4


class ModelNotLoaded(Exception):
    """The model cannot be loaded; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class _Text:
    text: str
    tokens: int

    def __len__(self) -> int:
        return self.tokens


class _Encoder:
    """A loaded model. Not safe for use by two threads at once.

    Args:
        queries: encode questions, otherwise what is stored. Models may tell the two apart.
    """

    def __init__(self, model: Any, *, queries: bool) -> None:
        self._encode = model.encode_query if queries else model.encode_document
        self._longest: int = model.get_max_seq_length() or 512

    def tokenise(self, texts: Sequence[str]) -> list[_Text]:
        return [
            _Text(text, min(len(text) // _CHARACTERS_A_TOKEN + 2, self._longest)) for text in texts
        ]

    def vectors(self, tokens: Sequence[_Text]) -> NDArray[np.float32]:
        found: NDArray[np.float32] = self._encode(
            [text.text for text in tokens],
            batch_size=len(tokens),
            normalize_embeddings=True,
            show_progress_bar=False,
        )
        return found.astype(np.float32, copy=False)


class SentenceTransformersEmbedder(LocalEmbedder):
    """A model of sentence-transformers. Loading blocks, and takes seconds.

    Args:
        name: a folder, or a model's name, which the library downloads if it is not there.
        threads: how many threads one inference uses; 0 means torch's choice. Of all models in
            the process the last one made decides.
        background: embed what is stored, while nobody else needs the processor; otherwise
            questions. Each has a model of its own.

    Raises:
        ModelNotLoaded: the extra is not installed, or there is no such model.
    """

    def __init__(
        self,
        name: str,
        threads: int = 0,
        cached_texts: int = CACHED_TEXTS,
        *,
        background: bool = False,
    ) -> None:
        model = _load(name, threads)
        encoder = _Encoder(model, queries=not background)
        super().__init__(
            f"sentence-transformers:{name}",
            model.get_embedding_dimension(),
            lambda: encoder,
            cached_texts=cached_texts,
            background=background,
        )


def _load(name: str, threads: int) -> Any:
    try:
        import torch
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError:
        raise ModelNotLoaded(f"embedder sentence-transformers needs the extra: {EXTRA}") from None
    if threads:
        torch.set_num_threads(threads)
    try:
        return SentenceTransformer(name)
    except Exception as error:
        # Whatever is wrong with a folder or a download, the library may raise.
        reason = str(error).strip().partition("\n")[0]
        raise ModelNotLoaded(f"embedder sentence-transformers:{name}: {reason}") from error

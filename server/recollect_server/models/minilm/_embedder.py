"""The bundled model as an embedder."""

from recollect_server.models.local import CACHED_TEXTS, LocalEmbedder
from recollect_server.models.minilm._encoder import DIMENSIONS, Encoder


class MiniLmEmbedder(LocalEmbedder):
    """all-MiniLM-L6-v2: English sentences and short paragraphs to 384 dimensions.

    A text counts up to its 256th token. Loading takes about 0.2 s and blocks.

    Args:
        threads: how many threads one inference uses; 0 means all usable cores.
        cached_texts: how many recent short texts keep their vectors, 1.5 KB each.
        background: compute only while nobody else needs the processor, with a model of its own
            (about 100 MB), which is loaded by the first call.

    Raises:
        FileNotFoundError: the bundled files are missing.
    """

    model: str = "all-MiniLM-L6-v2"
    dimensions: int = DIMENSIONS

    def __init__(
        self, threads: int = 0, cached_texts: int = CACHED_TEXTS, *, background: bool = False
    ) -> None:
        made = None if background else Encoder.bundled(threads)
        super().__init__(
            self.model,
            self.dimensions,
            lambda: made or Encoder.bundled(threads),
            cached_texts=cached_texts,
            background=background,
        )

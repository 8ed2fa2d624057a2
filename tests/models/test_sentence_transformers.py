"""Models of sentence-transformers, by the real library on a small model made here."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.models.small_transformer import (
    DIMENSIONS,
    PASSAGE,
    QUESTION,
    make_model,
    require_library,
)

from recollect_server.errors import Reason, Unavailable
from recollect_server.models.sentence_transformers import (
    ModelNotLoaded,
    SentenceTransformersEmbedder,
)

TEXTS = ["a boat", "the harbour wall " * 90, "猫が好きです", "", "a boat in the harbour"]
TOLERANCE = 1e-5
"""A text alone and in a batch differ by the order of float32 sums."""

require_library()

# torch and its like warn of their own affairs while they are imported and read models.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def reference(folder: Path) -> Any:
    """The model as the library itself gives it."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder))


@pytest.fixture
async def embedder(folder: Path):
    made = SentenceTransformersEmbedder(str(folder), threads=1)
    yield made
    await made.close()


async def test_vectors_are_those_of_the_library(reference, folder, embedder):
    found = await embedder.embed(TEXTS)
    assert (embedder.model, embedder.dimensions) == (f"sentence-transformers:{folder}", DIMENSIONS)
    assert (found.shape, found.dtype) == ((5, DIMENSIONS), np.float32)
    expected = [
        reference.encode(text, prompt=QUESTION, normalize_embeddings=True) for text in TEXTS
    ]
    np.testing.assert_allclose(found, np.array(expected), atol=TOLERANCE)


async def test_what_is_stored_is_embedded_as_such_and_questions_as_questions(
    reference, folder, embedder
):
    stored = SentenceTransformersEmbedder(str(folder), background=True)
    found = await stored.embed(["a boat"])
    expected = reference.encode(["a boat"], prompt=PASSAGE, normalize_embeddings=True)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE)
    assert not np.allclose(found, await embedder.embed(["a boat"]), atol=1e-3)
    await stored.close()


async def test_concurrent_calls_get_their_own_vectors(embedder):
    texts = [f"number {number} " + "and more " * (number % 20) for number in range(40)]
    together = await asyncio.gather(*(embedder.embed([text]) for text in texts))
    again = await embedder.embed(texts)
    np.testing.assert_allclose(np.concatenate(together), again, atol=TOLERANCE)


async def test_a_closed_embedder_refuses(folder):
    embedder = SentenceTransformersEmbedder(str(folder))
    await embedder.close()
    with pytest.raises(Unavailable) as refused:
        await embedder.embed(["late"])
    assert refused.value.reason is Reason.SHUTTING_DOWN


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ModelNotLoaded, match=f"embedder sentence-transformers:{tmp_path}: "):
        SentenceTransformersEmbedder(str(tmp_path))

"""Models of sentence-transformers, by the real library on a small model made here."""

import asyncio
import importlib.util
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recollect_server.errors import Reason, Unavailable
from recollect_server.models import minilm
from recollect_server.models.sentence_transformers import (
    ModelNotLoaded,
    SentenceTransformersEmbedder,
)

TEXTS = ["a boat", "the harbour wall " * 90, "猫が好きです", "", "a boat in the harbour"]
TOLERANCE = 1e-5
"""A text alone and in a batch differ by the order of float32 sums."""

if importlib.util.find_spec("sentence_transformers") is None:
    if os.environ.get("CI") == "true":
        raise RuntimeError("CI needs the extra sentence-transformers: `make .venv/.torch`")
    pytest.skip("needs the extra sentence-transformers", allow_module_level=True)

# torch and its like warn of their own affairs while they are imported and read models.
pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def library() -> Any:
    with warnings.catch_warnings(action="default"):
        import sentence_transformers

        return sentence_transformers


@pytest.fixture(scope="module")
def folder(library: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model: random weights, the bundled tokenizer, and prompts that tell questions apart."""
    with warnings.catch_warnings(action="default"):
        return make_model(library, tmp_path_factory.mktemp("model"))


def make_model(library: Any, folder: Path) -> Path:
    import torch
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    torch.manual_seed(1)
    bare = folder / "bare"
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64
    )
    BertModel(config).save_pretrained(bare)
    PreTrainedTokenizerFast(
        tokenizer_file=str(Path(minilm.__file__).parent / "tokenizer.json"),
        model_max_length=128,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(bare)
    reading = library.models.Transformer(str(bare), max_seq_length=128)
    pooling = library.models.Pooling(32)
    model = library.SentenceTransformer(
        modules=[reading, pooling],
        device="cpu",
        prompts={"query": "question: ", "document": "passage: "},
    )
    model.save_pretrained(str(folder / "model"))
    return folder / "model"


@pytest.fixture
async def embedder(folder: Path):
    made = SentenceTransformersEmbedder(str(folder), threads=1)
    yield made
    await made.close()


async def test_vectors_are_those_of_the_library(library, folder, embedder):
    reference = library.SentenceTransformer(str(folder))
    found = await embedder.embed(TEXTS)
    assert (embedder.model, embedder.dimensions) == (f"sentence-transformers:{folder}", 32)
    assert (found.shape, found.dtype) == ((5, 32), np.float32)
    expected = [
        reference.encode(text, prompt="question: ", normalize_embeddings=True) for text in TEXTS
    ]
    np.testing.assert_allclose(found, np.array(expected), atol=TOLERANCE)


async def test_what_is_stored_is_embedded_as_such_and_questions_as_questions(
    library, folder, embedder
):
    stored = SentenceTransformersEmbedder(str(folder), background=True)
    reference = library.SentenceTransformer(str(folder))
    found = await stored.embed(["a boat"])
    expected = reference.encode(["a boat"], prompt="passage: ", normalize_embeddings=True)
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

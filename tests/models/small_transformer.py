"""A small model of sentence-transformers, made here as nothing is downloaded."""

import importlib.util
import os
import warnings
from pathlib import Path

import pytest

from recollect_server.models import minilm

DIMENSIONS = 32
QUESTION, PASSAGE = "question: ", "passage: "


def require_library() -> None:
    """Skip the module without the extra; in CI it must be there."""
    if importlib.util.find_spec("sentence_transformers") is None:
        if os.environ.get("CI") == "true":
            raise RuntimeError("CI needs the extra sentence-transformers: `make .venv/.torch`")
        pytest.skip("needs the extra sentence-transformers", allow_module_level=True)


def make_model(folder: Path) -> Path:
    """Write a model of random weights with the bundled tokenizer, which tells questions apart."""
    # The libraries warn of their own affairs while they are imported and read models.
    with warnings.catch_warnings(action="ignore"):
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

        torch.manual_seed(1)
        config = BertConfig(
            hidden_size=DIMENSIONS,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
        )
        BertModel(config).save_pretrained(folder / "bare")
        PreTrainedTokenizerFast(
            tokenizer_file=str(Path(minilm.__file__).parent / "tokenizer.json"),
            model_max_length=128,
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
        ).save_pretrained(folder / "bare")
        # Of a bare transformer the library makes a model with mean pooling.
        model = SentenceTransformer(
            str(folder / "bare"), device="cpu", prompts={"query": QUESTION, "document": PASSAGE}
        )
        model.save_pretrained(str(folder / "model"))
    return folder / "model"

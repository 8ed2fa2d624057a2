"""Texts to tokens to vectors, in the caller's thread."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

# The library reads it when it is loaded. Without it, it keeps an id of this machine under the home
# folder and reports to its makers which program runs it, and on what.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

DIMENSIONS = 384

# `max_seq_length` of the model's sentence_bert_config.json; counts [CLS] and [SEP].
MAX_TOKENS = 256

# A text longer than this is cut at white space before it is tokenised, because all but the first
# 256 tokens are dropped anyway. Long enough that the cut part nearly always fills them.
_HEAD_CHARACTERS = 8192


def usable_cores() -> int:
    """Return how many cores this process may use: its affinity mask and its cgroup's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota_file = Path("/sys/fs/cgroup/cpu.max")
    if quota_file.exists():
        quota, period = quota_file.read_text(encoding="ascii").split()
        if quota != "max":
            cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(cores, 1)


class Encoder:
    """The tokeniser and the model. Not safe for use by two threads at once.

    Args:
        folder: where `model.onnx` and `tokenizer.json` are.
        threads: how many threads one inference uses; 0 means all usable cores.

    Raises:
        FileNotFoundError: a file is missing.
    """

    def __init__(self, folder: Path, threads: int) -> None:
        model, tokenizer = folder / "model.onnx", folder / "tokenizer.json"
        for file in (model, tokenizer):
            if not file.is_file():
                raise FileNotFoundError(f"{file} is missing; run scripts/convert_minilm.py")

        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        # The arena and the patterns keep the largest batch's memory for ever and save no time.
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        # Idle threads would spin for some 10 ms after every inference, which takes a core from
        # the rest of the server: 16 ms of CPU for a short query instead of 5 ms.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )

    @classmethod
    def bundled(cls, threads: int = 0) -> "Encoder":
        """Return the model that comes with this package."""
        return cls(Path(__file__).parent, threads)

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token ids, [CLS] first, [SEP] last, at most `MAX_TOKENS`."""
        heads = [_head(text) for text in texts]
        # encode_batch gives up the GIL, encode does not.
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(heads)]
        for number, (text, head) in enumerate(zip(texts, heads, strict=True)):
            if len(head) < len(text) and len(tokens[number]) < MAX_TOKENS:
                tokens[number] = self._tokenizer.encode_batch_fast([text])[0].ids
        return tokens

    def vectors(self, tokens: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """Return the embeddings of one batch: shape (len(tokens), 384), rows of unit length."""
        longest = max(len(ids) for ids in tokens)
        input_ids = np.zeros((len(tokens), longest), np.int64)
        attention_mask = np.zeros_like(input_ids)
        for row, ids in enumerate(tokens):
            input_ids[row, : len(ids)] = ids
            attention_mask[row, : len(ids)] = 1
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        embedding: NDArray[np.float32] = self._session.run(["embedding"], feed)[0]
        return embedding


def _head(text: str) -> str:
    """Cut a long text at the last space before `_HEAD_CHARACTERS`, or return it whole.

    The tokeniser never joins characters across a space, so the tokens of the head are the
    first tokens of the text.
    """
    if len(text) <= _HEAD_CHARACTERS:
        return text
    space = text.rfind(" ", 0, _HEAD_CHARACTERS)
    return text if space < 0 else text[:space]

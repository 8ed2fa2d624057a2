"""The bundled embedder: all-MiniLM-L6-v2 through onnxruntime, without torch or a download.

`model.onnx` and `tokenizer.json` are written by `scripts/convert_minilm.py`; `digests.json`
says from what.
"""

from recollect_server.models.minilm._embedder import MiniLmEmbedder
from recollect_server.models.minilm._encoder import Encoder, usable_cores

__all__ = ["Encoder", "MiniLmEmbedder", "usable_cores"]

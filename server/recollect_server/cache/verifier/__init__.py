"""Whether the answer to one conversation also answers another: candidates, features, a model.

docs/verifier.md is the model's card; `scripts/train_verifier.py` makes the model.
"""

from recollect_server.cache.verifier.model import TreeVerifier, load
from recollect_server.cache.verifier.vectors import candidate_vector
from recollect_server.cache.verifier.window import window_text

__all__ = ["TreeVerifier", "candidate_vector", "load", "window_text"]

"""Recall without a language model: words, vectors and dates over one user's items.

Pure computation on numpy arrays: no store, no model, no clock. A `Corpus` holds a user's items,
`analyse` reads a question once, `rank` puts the two together. A corpus is not safe to change in
one thread while another reads it.
"""

from recollect_server.memory.recall.candidates import CandidateEvidence, Candidates
from recollect_server.memory.recall.corpus import Corpus, embedding_text
from recollect_server.memory.recall.query import Query, analyse, question_text
from recollect_server.memory.recall.ranking import rank

__all__ = [
    "CandidateEvidence",
    "Candidates",
    "Corpus",
    "Query",
    "analyse",
    "embedding_text",
    "question_text",
    "rank",
]

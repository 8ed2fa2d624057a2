"""Vectors of conversations, made from the vectors of their messages."""

import numpy as np
from numpy.typing import NDArray

from recollect_server.cache.conversation import Conversation
from recollect_server.memory.model import Role

ANSWER_WEIGHT = 0.5
"""Of the last answer's similarity among candidates; question and history weigh 1."""


def mean_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean direction of rows (n, dimensions), zeros for none or for opposites."""
    total: NDArray[np.float32] = vectors.sum(axis=0, dtype=np.float32)
    norm = float(np.linalg.norm(total))
    return total / np.float32(norm) if norm > 1e-6 else np.zeros_like(total)


def last_answer(conversation: Conversation) -> NDArray[np.float32]:
    """Return the vector of the last assistant message before the question, zeros without one."""
    for place in range(len(conversation.roles) - 2, -1, -1):
        if conversation.roles[place] is Role.ASSISTANT:
            answer: NDArray[np.float32] = conversation.vectors[place]
            return answer
    return np.zeros_like(conversation.vectors[-1])


def candidate_vector(conversation: Conversation) -> NDArray[np.float32]:
    """Return the vector by whose cosine candidates are found, unit length, (3 * dimensions,).

    It joins the question's vector, the direction of the earlier messages, and the last answer's
    times the root of its weight, so that the inner product of two is the sum of the three
    similarities. What a conversation does not have is zero.
    """
    joined = np.concatenate(
        [
            conversation.vectors[-1],
            mean_of(conversation.vectors[:-1]),
            last_answer(conversation) * np.float32(np.sqrt(ANSWER_WEIGHT)),
        ]
    ).astype(np.float32)
    norm = np.float32(np.linalg.norm(joined))
    return joined / norm if norm > 0 else joined

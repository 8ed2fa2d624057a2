"""How alike the vectors of two conversations are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.verifier.vectors import last_answer
from recollect_server.cache.verifier.view import NEAR
from recollect_server.memory.model import Role

_RECENT = 6
_MEANS = 4
_QUESTION, _PLACED, _HISTORY, _USERS, _RECENTLY, _BEFORE, _ANSWER = range(7)
_TURNS = _ANSWER + 1 + _RECENT
"""Where the rows of the last earlier messages end, the latest one last."""
_ROWS = _TURNS + NEAR
"""Rows of a side; the user's last earlier questions are at the end."""

Grid = list[list[float]]


@dataclass(frozen=True, slots=True)
class Similarity:
    """Cosines of what two conversations have; what a side does not have is zero.

    Attributes:
        question: of the last messages.
        history: of the mean directions of the earlier messages.
        users: of the mean directions of the user's earlier messages.
        answer: of the last answers.
        recent: of the mean directions of the last six messages, the question included.
        turns: how well each of the last six earlier messages is met by one of the other side,
            mean of both directions.
        asked_before: how much nearer the asked question is to an earlier one of the stored side
            than to its last; 0 if less.
        stored_before: the same the other way round.
        previous: of the user's questions before the last ones; without any, 1 if neither has one.
        aligned: least of the earlier messages that are as far from the question, up to four.
        placed: of the questions, where one may say what the other leaves to its history: together
            with what was said just before it.
    """

    question: float
    history: float
    users: float
    answer: float
    recent: float
    turns: float
    asked_before: float
    stored_before: float
    previous: float
    aligned: float
    placed: float


def similarities(asked: Conversation, stored: Sequence[Conversation]) -> list[Similarity]:
    """Compare a conversation with others, whose vectors are of the same embedder."""
    if not stored:
        return []
    sides = _sides([asked, *stored])
    grids: list[Grid] = (sides[0] @ sides[1:].transpose(0, 2, 1)).tolist()
    return [_similarity(grid, asked, other) for grid, other in zip(grids, stored, strict=True)]


def _sides(conversations: Sequence[Conversation]) -> NDArray[np.float32]:
    """Return the rows that are compared, shape (conversations, _ROWS, dimensions)."""
    dimensions = conversations[0].vectors.shape[1]
    sides = np.zeros((len(conversations), _ROWS, dimensions), np.float32)
    for side, conversation in zip(sides, conversations, strict=True):
        vectors, count = conversation.vectors, len(conversation.texts)
        side[_QUESTION] = vectors[-1]
        asked = _earlier_questions(conversation)
        weights = np.zeros((_MEANS, count), np.float32)
        weights[0, :-1] = 1
        weights[1, asked] = 1
        weights[2, -_RECENT:] = 1
        weights[3, -1 - NEAR : -1] = 1
        side[_HISTORY : _HISTORY + _MEANS] = weights @ vectors
        side[_ANSWER] = last_answer(conversation)
        turns = vectors[-1 - _RECENT : -1]
        side[_TURNS - len(turns) : _TURNS] = turns
        if asked:
            latest = vectors[asked[-NEAR:]]
            side[_ROWS - len(latest) :] = latest
    means = slice(_HISTORY, _HISTORY + _MEANS)
    sides[:, means] = _directions(sides[:, means])
    sides[:, _PLACED] = _directions(sides[:, _QUESTION] + sides[:, _BEFORE])
    return sides


def _earlier_questions(conversation: Conversation) -> list[int]:
    return [n for n, role in enumerate(conversation.roles[:-1]) if role is Role.USER]


def _directions(sums: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.sqrt(np.einsum("...d,...d->...", sums, sums))
    # Nothing, or what cancels out, has no direction.
    lengths[lengths <= 1e-6] = np.inf
    directions: NDArray[np.float32] = sums / lengths[..., None]
    return directions


def _similarity(grid: Grid, asked: Conversation, stored: Conversation) -> Similarity:
    a, s = len(asked.texts) - 1, len(stored.texts) - 1
    alone = not a and not s
    question = grid[_QUESTION][_QUESTION]
    asked_earlier = min(NEAR, len(_earlier_questions(asked)))
    stored_earlier = min(NEAR, len(_earlier_questions(stored)))
    return Similarity(
        question=question,
        # Two that both have nothing there agree.
        history=1.0 if alone else grid[_HISTORY][_HISTORY],
        users=1.0 if alone else grid[_USERS][_USERS],
        answer=1.0 if alone else grid[_ANSWER][_ANSWER],
        recent=grid[_RECENTLY][_RECENTLY],
        turns=_turns(grid, a, s),
        asked_before=max(
            0.0, max(grid[_QUESTION][_ROWS - stored_earlier :], default=question) - question
        ),
        stored_before=max(
            0.0,
            max((row[_QUESTION] for row in grid[_ROWS - asked_earlier :]), default=question)
            - question,
        ),
        previous=(
            grid[-1][-1]
            if asked_earlier and stored_earlier
            else float(asked_earlier == stored_earlier)
        ),
        aligned=min(
            (grid[_TURNS - n][_TURNS - n] for n in range(1, min(a, s, NEAR) + 1)),
            default=float(alone),
        ),
        placed=max(question, grid[_QUESTION][_PLACED], grid[_PLACED][_QUESTION]),
    )


def _turns(grid: Grid, asked: int, stored: int) -> float:
    if not asked or not stored:
        return float(asked == stored)
    rows, columns = min(asked, _RECENT), min(stored, _RECENT)
    pairs = [row[_TURNS - columns : _TURNS] for row in grid[_TURNS - rows : _TURNS]]
    asked_met = sum(max(row) for row in pairs) / rows
    stored_met = sum(max(column) for column in zip(*pairs, strict=True)) / columns
    met: float = (asked_met + stored_met) / 2
    return met

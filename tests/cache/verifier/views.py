"""Conversations as rules see them, without vectors."""

from collections.abc import Callable, Sequence

import numpy as np

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.verifier.view import View
from recollect_server.memory.model import Role


def view(*texts: str) -> View:
    """Return a conversation in which the user begins and both speak in turn."""
    roles = tuple((Role.USER, Role.ASSISTANT)[place % 2] for place in range(len(texts)))
    return View(Conversation(roles, texts, np.zeros((len(texts), 2), np.float32), "none"))


def both_ways(rule: Callable[[View, View], bool], one: Sequence[str], two: Sequence[str]) -> bool:
    """Return what a rule says of two conversations, whichever of them is asked."""
    verdicts = {rule(view(*a), view(*b)) for a, b in ((one, two), (two, one))}
    assert len(verdicts) == 1, "it is the same both ways round"
    return verdicts.pop()

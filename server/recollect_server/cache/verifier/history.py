"""Whether something else was said before two questions.

A question like "How much food does he need?" says nothing of what its answer depends on. "My dog
weighs 5 kg" and "My dog weighs 20 kg" have nearly one vector, and the replies to both are the same.
"""

from collections import Counter

from recollect_server.cache.verifier.contrast import contrast
from recollect_server.cache.verifier.reading import LONGEST, Reading, read, same_text
from recollect_server.cache.verifier.view import View
from recollect_server.memory.model import Role

_SHORT = 6
"""Replies of so few content words have one that matters."""
_ALIKE = 0.5
"""Of two messages in one form, the shorter one has such a share of its words from the other."""


def other_history(asked: View, stored: View) -> bool:
    """Whether what was said before the questions differs in what may matter.

    Where the same speakers spoke in turn, their messages are compared one by one. Otherwise the
    user of one side said more, which the other conversation does not mention. What the user says
    at length must be the same, in words; replies at length are left to the trees.
    """
    a, s = asked.conversation, stored.conversation
    if a.texts[:-1] == s.texts[:-1] and a.roles == s.roles:
        return False
    if a.roles != s.roles:
        return bool(asked.told - stored.known or stored.told - asked.known)
    changed = [
        (role, one, other)
        for role, one, other in zip(a.roles[:-1], a.texts, s.texts, strict=False)
        if one != other
    ]
    if any(role is Role.USER and _other_text(one, other) for role, one, other in changed):
        return True
    pairs = [
        (role, read(one), read(other)) for role, one, other in changed if not _long(one, other)
    ]
    said = {other.words for _, _, other in pairs if other.own}
    return any(
        (one.words != other.words and one.words in said)
        or contrast(one, other)
        or (role is Role.ASSISTANT and _other_reply(one, other))
        or (role is Role.USER and _other_statement(one, other, asked, stored))
        for role, one, other in pairs
    )


def _long(one: str, other: str) -> bool:
    return max(len(one), len(other)) > LONGEST


def _other_text(one: str, other: str) -> bool:
    return _long(one, other) and not same_text(one, other)


def _other_reply(one: Reading, other: Reading) -> bool:
    """Whether each says what the other does not, and they are short or in one form."""
    if not (one.telling - other.telling and other.telling - one.telling):
        return False
    short = min(len(one.telling), len(other.telling)) <= _SHORT
    return short or _alike(one, other)


def _other_statement(one: Reading, other: Reading, asked: View, stored: View) -> bool:
    """Whether each says, in one form, what the other conversation does not mention.

    A question that was answered the same was the same, however it was worded.
    """
    if one.asked or other.asked:
        return False
    new = one.telling - other.telling - stored.known, other.telling - one.telling - asked.known
    return all(new) and _alike(one, other)


def _alike(one: Reading, other: Reading) -> bool:
    a, b = one.words, other.words
    return (Counter(a) & Counter(b)).total() >= _ALIKE * min(len(a), len(b))

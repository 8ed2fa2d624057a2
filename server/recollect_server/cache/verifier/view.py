"""A conversation as comparisons of wording read it."""

from functools import cached_property

from recollect_server.cache.conversation import Conversation
from recollect_server.cache.verifier.reading import (
    LONGEST,
    Gist,
    Pointing,
    Reading,
    Telling,
    gist,
    read,
)
from recollect_server.memory.model import Role

NEAR = 4
"""How many messages before the question may hold what the question leaves out."""


class View:
    """What is read of a conversation's texts, each once.

    It reads no question of more than `LONGEST` characters.
    """

    def __init__(self, conversation: Conversation) -> None:
        self.conversation = conversation
        self.long = len(conversation.texts[-1]) > LONGEST

    @cached_property
    def reading(self) -> Reading:
        """The question, read."""
        return read("" if self.long else self.conversation.texts[-1])

    @property
    def own(self) -> frozenset[str]:
        """Content words of the question."""
        return self.reading.own

    @property
    def values(self) -> tuple[float, ...]:
        """Values of the question's quantities, in order."""
        return self.reading.values

    @cached_property
    def near(self) -> tuple[Gist, ...]:
        """The messages just before the question, read."""
        return tuple(gist(text) for text in self.conversation.texts[-1 - NEAR : -1])

    @cached_property
    def telling(self) -> frozenset[Telling]:
        """Content words and values of the question."""
        return self.own.union(self.values)

    def pointing(self, word: Telling) -> Pointing:
        """Return how surely a word or value of the question stands for something said before."""
        if isinstance(word, str):
            return self.reading.pointing.get(word, Pointing.SAID)
        return Pointing.DEFINITE if word in self.reading.counted else Pointing.SAID

    @cached_property
    def said(self) -> frozenset[str]:
        """Content words of what is near the question, without its own."""
        return frozenset().union(*(earlier.content for earlier in self.near))

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """Content words of the question and of what is near it."""
        return self.own | self.said

    @cached_property
    def earlier(self) -> frozenset[str]:
        """Content words of all that was said before the question."""
        return frozenset().union(*(gist(t).content for t in self.conversation.texts[:-1]))

    @cached_property
    def mentioned(self) -> frozenset[str]:
        """Content words of the whole conversation."""
        return self.own | self.earlier

    @cached_property
    def told(self) -> frozenset[Telling]:
        """Content words and values of all that the user said before the question."""
        turns = zip(self.conversation.roles[:-1], self.conversation.texts, strict=False)
        gists = [gist(text) for role, text in turns if role is Role.USER]
        return frozenset().union(*(g.content for g in gists), *(g.values for g in gists))

    @cached_property
    def known(self) -> frozenset[Telling]:
        """Content words and values of the whole conversation."""
        gists = [gist(text) for text in self.conversation.texts[:-1]]
        return self.reading.telling.union(*(g.content for g in gists), *(g.values for g in gists))

    @cached_property
    def leans(self) -> bool:
        """The question goes by what was said before it: a pronoun, a word of it, or few words."""
        reading = self.reading
        if reading.points or reading.counts_on or len(self.own) < 2:
            return True
        return bool(self.own & self.earlier)

    @cached_property
    def known_values(self) -> frozenset[float]:
        """Values of the quantities of the question and of what is near it."""
        return frozenset(self.values).union(*(earlier.values for earlier in self.near))

    @cached_property
    def answer_content(self) -> int:
        """How many content words the last answer has."""
        roles = self.conversation.roles
        for place in range(len(roles) - 2, -1, -1):
            if roles[place] is Role.ASSISTANT:
                return gist(self.conversation.texts[place]).told
        return 0

    @property
    def alone(self) -> bool:
        """Nothing was said before the question."""
        return len(self.conversation.texts) == 1

"""A context, which goes into a model's prompt: its parts, and how large it may be."""

from dataclasses import dataclass, replace
from enum import IntEnum

from msgspec import Struct

from recollect_server.memory.model import Episode, Fact, Message, Session

DEFAULT_TOKEN_BUDGET = 8000
DEFAULT_FACTS = 10
DEFAULT_TURNS = 5
DEFAULT_EPISODES = 2


class ContextPart(IntEnum):
    """What a piece of a context is; values equal `recollect.v1.ContextPart`."""

    WINDOW = 1
    SUMMARY = 2
    FACT = 3
    TURN = 4
    EPISODE = 5


class ContextProfile(IntEnum):
    """A named choice of parts; values equal `recollect.v1.ContextProfile`."""

    BUFFER = 1
    SUMMARY = 2
    LONG_TERM = 3
    FULL = 4
    AUDIT = 5


@dataclass(frozen=True, slots=True)
class ContextOptions:
    """Which parts make a context, and how large it may be in estimated tokens.

    Attributes:
        summary: with it, the messages shown are those after the summary, else the window.
        asked: the message that a model is to answer: it is the last one, in also where it alone is
            over the budget, and alone where the session was cleared or made anew since it was
            stored.
        audit: the caller wants this read in the audit log.
    """

    window: bool = True
    summary: bool = True
    max_facts: int = DEFAULT_FACTS
    max_turns: int = DEFAULT_TURNS
    max_episodes: int = DEFAULT_EPISODES
    token_budget: int = DEFAULT_TOKEN_BUDGET
    asked: Message | None = None
    audit: bool = False


_NOTHING_RECALLED = ContextOptions(max_facts=0, max_turns=0, max_episodes=0)

OPTIONS_OF: dict[ContextProfile, ContextOptions] = {
    ContextProfile.BUFFER: replace(_NOTHING_RECALLED, summary=False),
    ContextProfile.SUMMARY: _NOTHING_RECALLED,
    ContextProfile.LONG_TERM: ContextOptions(summary=False, max_episodes=0),
    ContextProfile.FULL: ContextOptions(),
    ContextProfile.AUDIT: ContextOptions(audit=True),
}


class ContextItem(Struct, frozen=True):
    """Where a piece of a context comes from; see `recollect.v1.ContextItem`."""

    part: ContextPart
    item_id: str
    session_id: str
    sequence: int
    token_count: int
    score: float
    omitted: bool = False


class Context(Struct, frozen=True):
    """What to put into a prompt.

    Attributes:
        system: for the system prompt, after the application's own.
        messages: the window, oldest first.
        recalled: the facts, messages and episodes that `system` holds, best first.
        cache_down: SQL answered for the window cache.
        words_only: recall went by words alone.
    """

    system: str
    messages: tuple[Message, ...]
    items: tuple[ContextItem, ...]
    recalled: tuple[Fact | Message | Episode, ...]
    token_count: int
    session: Session
    indexed_revision: int
    cache_down: bool
    words_only: bool

    @property
    def holds_memory(self) -> bool:
        """Whether anything beside the window is in it."""
        return bool(self.system)

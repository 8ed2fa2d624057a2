"""The nouns of conversation memory: plain values, all times aware UTC datetimes.

What every call makes, or makes many of, is a `Struct`: it is made ten times as fast as a dataclass.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Generic, TypeVar

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

T = TypeVar("T")

Vector = NDArray[np.float32]
"""Unit-length embedding of shape (dimensions,)."""


class Role(IntEnum):
    """Who speaks; values equal `recollect.v1.Role`."""

    USER = 1
    ASSISTANT = 2
    SYSTEM = 3
    TOOL = 4


class Retention(IntEnum):
    """How long a session lives; values equal `recollect.v1.Retention`."""

    DURABLE = 1
    EPHEMERAL = 2


class MemoryKind(IntEnum):
    """What can be recalled; values equal `recollect.v1.MemoryKind`."""

    FACT = 1
    TURN = 2
    EPISODE = 3


class TextPart(Struct, frozen=True):
    """Plain text."""

    text: str


class ThinkingPart(Struct, frozen=True):
    """A model's reasoning, with the provider's signature that lets it be sent back unchanged."""

    text: str
    signature: str = ""


class ToolCallPart(Struct, frozen=True):
    """The model asks for a tool; `input_json` is a JSON object as text."""

    call_id: str
    name: str
    input_json: str


class ToolResultPart(Struct, frozen=True):
    """What a tool answered to the call `call_id`."""

    call_id: str
    text: str
    is_error: bool = False


Part = TextPart | ThinkingPart | ToolCallPart | ToolResultPart


def plain_text(parts: tuple[Part, ...]) -> str:
    """The words a person would read: text and tool results, joined by newlines."""
    return "\n".join(p.text for p in parts if isinstance(p, TextPart | ToolResultPart))


class PromptMessage(Struct, frozen=True):
    """A message as a model gets it."""

    role: Role
    parts: tuple[Part, ...]


class NewMessage(Struct, frozen=True):
    """A message to append.

    Attributes:
        time: when it was said; None means when it is stored.
        external_id: the caller's own id for it, "" for none; not unique.
    """

    role: Role
    parts: tuple[Part, ...]
    author_name: str = ""
    time: datetime | None = None
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    external_id: str = ""


class Message(Struct, frozen=True):
    """A stored message.

    Attributes:
        sequence: 1, 2, 3, … within the session, without gaps.
        token_count: estimated tokens, see `memory.tokens`.
    """

    message_id: str
    session_id: str
    sequence: int
    role: Role
    parts: tuple[Part, ...]
    author_name: str
    time: datetime
    create_time: datetime
    metadata: Mapping[str, str]
    external_id: str
    token_count: int

    @property
    def text(self) -> str:
        """See `plain_text`."""
        return plain_text(self.parts)


@dataclass(frozen=True, slots=True)
class Summary:
    """The rolling summary of a session's messages up to through_sequence.

    Attributes:
        model: which model wrote it; `extractive` for sentences of the messages themselves.
    """

    text: str
    through_sequence: int
    update_time: datetime
    model: str


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session to create.

    Attributes:
        idle_ttl: zero means never.
        expire_time: None means never.
    """

    session_id: str
    title: str = ""
    retention: Retention = Retention.DURABLE
    metadata: Mapping[str, str] = field(default_factory=dict)
    window_size: int = 20
    window_ttl: timedelta = timedelta(hours=1)
    idle_ttl: timedelta = timedelta(0)
    expire_time: datetime | None = None


class Session(Struct, frozen=True):
    """A conversation of one user.

    Attributes:
        revision: steps by one with each change to the session or its messages.
        last_sequence: the newest message's sequence, 0 for none.
        window_start: messages below this sequence were cleared from context by ClearSession.
        window_size: how many recent messages the window holds.
        window_ttl: how long an idle window stays cached.
        idle_ttl: the session is deleted when idle for so long; zero means never.
        expire_time: the session is deleted at this time; None means never.
        summary_through: messages up to this sequence are covered by the summary, or cleared.
        open_tokens: estimated tokens of the messages after `summary_through`.
        episode_through: messages up to this sequence belong to an episode.
        extracted_through: facts were extracted from the messages up to this sequence.
    """

    session_id: str
    title: str
    retention: Retention
    metadata: Mapping[str, str]
    window_size: int
    window_ttl: timedelta
    idle_ttl: timedelta
    create_time: datetime
    update_time: datetime
    revision: int
    last_sequence: int
    message_count: int
    window_start: int = 1
    summary: Summary | None = None
    expire_time: datetime | None = None
    summary_through: int = 0
    open_tokens: int = 0
    episode_through: int = 0
    extracted_through: int = 0


@dataclass(frozen=True, slots=True)
class NewEpisode:
    """What was made of a stretch of a session."""

    title: str
    summary: str
    model: str
    first_sequence: int
    last_sequence: int
    start_time: datetime
    end_time: datetime


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch of a session that ended by being cleared or idle.

    Attributes:
        start_time: of its first message.
        end_time: of its last message.
        model: as in `Summary`.
    """

    episode_id: str
    session_id: str
    title: str
    summary: str
    model: str
    first_sequence: int
    last_sequence: int
    start_time: datetime
    end_time: datetime

    @property
    def text(self) -> str:
        """What it is recalled by."""
        return f"{self.title}\n{self.summary}"


class Appended(Struct, frozen=True):
    """What AppendMessages did: the stored messages and the revisions that hold them.

    Attributes:
        user_revision: pass it to Recall as `min_revision` to read this write.
        session_time: when the session was created.
    """

    messages: tuple[Message, ...]
    session_revision: int
    user_revision: int
    session_time: datetime


class FactKind(IntEnum):
    """What a fact is about; values equal `recollect.v1.FactKind`."""

    PREFERENCE = 1
    PROFILE = 2
    ENVIRONMENT = 3
    PROJECT = 4
    ISSUE = 5
    OTHER = 6


class FactAction(IntEnum):
    """What became of a statement; values equal `recollect.v1.FactAction`."""

    ADDED = 1
    MERGED = 2
    SUPERSEDED = 3
    IGNORED = 4


@dataclass(frozen=True, slots=True)
class NewFact:
    """A fact to remember; an empty `fact_id` lets the server make one."""

    text: str
    fact_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    confidence: float = 1.0
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    kind: FactKind = FactKind.OTHER


@dataclass(frozen=True, slots=True)
class ExtractedFact:
    """A statement found in messages, and which of them say so.

    Attributes:
        confidence: 0 to 1.
        sequences: of the messages, rising, at least one.
        said_at: when the first of them was said.
    """

    text: str
    confidence: float
    sequences: tuple[int, ...]
    said_at: datetime
    kind: FactKind = FactKind.OTHER


@dataclass(frozen=True, slots=True)
class FactSource:
    """The messages a fact was drawn from."""

    session_id: str
    first_sequence: int
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Fact:
    """One version of what is held true about a user.

    Attributes:
        version: 1, 2, 3, … ; an update or a contradiction makes the next one.
        valid_from: since when it holds in the world.
        valid_to: until when it held, None while it holds.
        recorded_at: when this version was written.
        superseded_by: id of the fact that contradicted it, "" for none.
    """

    fact_id: str
    version: int
    text: str
    metadata: Mapping[str, str]
    confidence: float
    valid_from: datetime
    valid_to: datetime | None
    recorded_at: datetime
    sources: tuple[FactSource, ...] = ()
    superseded_by: str = ""
    kind: FactKind = FactKind.OTHER

    def holds_at(self, time: datetime) -> bool:
        """Whether it has not ended by then."""
        return self.valid_to is None or self.valid_to > time


@dataclass(frozen=True, slots=True)
class Reconciled:
    """A fact that holds what a statement says, and what became of the statement."""

    fact: Fact
    action: FactAction


@dataclass(frozen=True, slots=True)
class Remembered:
    """What Remember did, in the order of what was given.

    Attributes:
        by_rules: the small model was down, rules alone compared.
    """

    results: tuple[Reconciled, ...]
    user_revision: int
    by_rules: bool = False

    @property
    def facts(self) -> tuple[Fact, ...]:
        """The facts that hold what was given."""
        return tuple(result.fact for result in self.results)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list; an empty `next_token` ends it."""

    items: tuple[T, ...]
    next_token: str = ""

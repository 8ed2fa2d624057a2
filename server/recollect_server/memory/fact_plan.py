"""What to do with statements that were compared with facts: plans that stores carry out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from recollect_server.ids import uuid7
from recollect_server.memory.model import (
    ExtractedFact,
    Fact,
    FactAction,
    FactKind,
    FactSource,
    NewFact,
)

EXTRACTED_BY = "extracted_by"
"""Key of the metadata that names the model that found a fact."""

MOST_SOURCES = 100
"""A fact keeps so many of its sources, the first ones."""


class FactsChanged(Exception):
    """What a plan was compared with is no longer current: nothing was written, compare again."""


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with one statement.

    Attributes:
        fact: what is stored if the statement is added or supersedes others. A `valid_from` that
            equals `recorded_at` stands for the time of the write.
        targets: the versions it was compared with and that change: those superseded, or the one
            that it is merged with or says it already.
        text: of the merged fact.
        always: it is stored even if the same statement is held already.
    """

    fact: Fact
    action: FactAction = FactAction.ADDED
    targets: tuple[Fact, ...] = ()
    text: str = ""
    always: bool = False

    @property
    def preview(self) -> Fact:
        """What the step would store: of a merged fact the version that it changes, changed."""
        merges = self.action is FactAction.MERGED
        return merged(self.targets[0], self.fact, self.text) if merges else self.fact


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps for a user's facts, in their order; a later one may name the fact of an earlier one.

    Attributes:
        as_of: the user's revision before anything was compared; None if nothing was.
        by_rules: the small model was down, rules alone compared.
    """

    steps: tuple[Step, ...]
    as_of: int | None = None
    by_rules: bool = False


def first_version(fact: NewFact, now: datetime) -> Fact:
    """Return the first version of a fact that was given."""
    return Fact(
        fact_id=fact.fact_id or uuid7(),
        version=1,
        text=fact.text,
        metadata=fact.metadata,
        confidence=fact.confidence,
        valid_from=fact.valid_from or now,
        valid_to=fact.valid_to,
        recorded_at=now,
        kind=fact.kind,
    )


def as_given(facts: Sequence[NewFact], now: datetime) -> Plan:
    """Return the plan that stores facts as they are, but for those that are held already."""
    return Plan(
        tuple(
            Step(first_version(f, now), always=bool(f.fact_id) or f.valid_to is not None)
            for f in facts
        )
    )


def found(fact: ExtractedFact, session_id: str, model: str, now: datetime) -> Fact:
    """Return the first version of a fact that was found in messages.

    It holds since it was said, or since now if the message is dated later.
    """
    return Fact(
        fact_id=uuid7(),
        version=1,
        text=fact.text,
        metadata={EXTRACTED_BY: model},
        confidence=fact.confidence,
        valid_from=min(fact.said_at, now),
        valid_to=None,
        recorded_at=now,
        sources=_runs(session_id, fact.sequences),
        kind=fact.kind,
    )


def _runs(session_id: str, sequences: Sequence[int]) -> tuple[FactSource, ...]:
    """Return sequences as stretches without gaps."""
    runs: list[FactSource] = []
    for sequence in sorted(set(sequences)):
        if runs and runs[-1].last_sequence == sequence - 1:
            runs[-1] = replace(runs[-1], last_sequence=sequence)
        else:
            runs.append(FactSource(session_id, sequence, sequence))
    return tuple(runs)


def merged(held: Fact, new: Fact, text: str) -> Fact:
    """Return a fact with what another one adds, as the same version.

    Who found the other one is not said of a fact that was given.
    """
    added = {k: v for k, v in new.metadata.items() if k != EXTRACTED_BY}
    return replace(
        held,
        text=text,
        metadata={**held.metadata, **added},
        kind=new.kind if held.kind is FactKind.OTHER else held.kind,
        confidence=max(held.confidence, new.confidence),
        sources=joined_sources(held, new),
    )


def joined_sources(held: Fact, new: Fact) -> tuple[FactSource, ...]:
    """Return the sources of both, each once; a fact that was given rests on none."""
    if not held.sources or not new.sources:
        return ()
    return tuple(dict.fromkeys((*held.sources, *new.sources)))[:MOST_SOURCES]


def adds_nothing(new: Fact, held: Fact) -> bool:
    """Whether a fact of the same words says nothing that one held does not say."""
    both = merged(held, new, held.text)
    since = new.valid_from in (new.recorded_at, held.valid_from) or bool(new.sources)
    kind = new.kind in (FactKind.OTHER, held.kind) or bool(new.sources)
    return both.metadata == held.metadata and since and kind

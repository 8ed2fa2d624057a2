"""Reconciliation: comparing statements with the facts held, and what follows from it.

What is compared is read, and a model asked, outside any transaction. The plan that comes of it is
applied in one only if what was compared is still current; otherwise it is made again.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, TypeVar
from weakref import WeakValueDictionary

import structlog

from recollect_server.errors import Aborted, Reason, RecollectError
from recollect_server.memory.fact_plan import FactsChanged, Plan, Step, merged
from recollect_server.memory.jobs import BadModelAnswer
from recollect_server.memory.model import Fact, FactAction, MemoryKind
from recollect_server.memory.ports import FactStore, IndexSource, RecallFilter, RecallIndex
from recollect_server.memory.statements import Relation, other_words, relation
from recollect_server.scope import Scope

T = TypeVar("T")

log = structlog.get_logger("recollect.facts")

CANDIDATES = 5
"""Facts held that a statement is compared with, beside those of the same words."""

MOST_TRIES = 10
LONGEST_PAUSE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Compared:
    """A statement and the facts held that may be about the same."""

    fact: Fact
    candidates: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge decided on a statement.

    Attributes:
        targets: the candidates that it is about, none if it is added.
        text: of the merged fact.
    """

    action: FactAction
    targets: tuple[Fact, ...] = ()
    text: str = ""


class Judge(Protocol):
    """Decides what a statement is to similar facts."""

    async def judge(self, compared: Sequence[Compared]) -> tuple[Judgement, ...]:
        """Return a judgement on each, in order.

        Raises:
            Unavailable, ResourceExhausted: the model does not answer now.
            BadModelAnswer: it answers with something else than was asked for.
        """


class Reconciler:
    """Makes plans and sees them applied.

    Args:
        judge: the small model; None leaves everything to the rules.
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        facts: FactStore,
        index: RecallIndex,
        source: IndexSource,
        judge: Judge | None,
        clock: Callable[[], datetime],
    ) -> None:
        self._facts = facts
        self._index = index
        self._source = source
        self._judge = judge
        self._clock = clock
        self._locks: WeakValueDictionary[Scope, asyncio.Lock] = WeakValueDictionary()

    async def apply(
        self,
        scope: Scope,
        facts: Sequence[Fact],
        save: Callable[[Plan], Awaitable[T]],
        *,
        may_go_by_rules: bool = False,
    ) -> T:
        """Make a plan for statements and save it, again if other facts came in between.

        Args:
            save: applies a plan; raises `FactsChanged` if what was compared is not current.
            may_go_by_rules: as in `plan`.

        Raises:
            Aborted: REVISION_MISMATCH, the user's facts change faster than they can be compared.
        """
        lock = self._locks.setdefault(scope, asyncio.Lock())
        async with lock:
            for attempt in range(MOST_TRIES):
                plan = await self.plan(scope, facts, may_go_by_rules=may_go_by_rules)
                try:
                    return await save(plan)
                except FactsChanged:
                    pause = min(0.01 * 2**attempt, LONGEST_PAUSE_SECONDS)
                    # Not a secret: keeps processes that met from meeting again.
                    await asyncio.sleep(pause * random.random())  # noqa: S311 - no secret
        raise Aborted(
            Reason.REVISION_MISMATCH, "the user's facts changed while they were compared: try again"
        )

    async def plan(
        self, scope: Scope, facts: Sequence[Fact], *, may_go_by_rules: bool = False
    ) -> Plan:
        """Compare statements with the facts held and with each other.

        Args:
            may_go_by_rules: go by rules alone if the model does not answer.
        """
        as_of, _ = await self._source.user_revision(scope)
        similar = [await self._similar(scope, fact) for fact in facts]
        steps: list[Step] = []
        open_: dict[int, Compared] = {}
        for fact, candidates in zip(facts, similar, strict=True):
            earlier = tuple(step.fact for step in steps if step.action in _STORES)
            step = by_rules(fact, _after((*candidates, *earlier), steps))
            certain = _says_the_same(step) or _among(step.targets, earlier)
            if candidates and not certain and fact.valid_to is None:
                open_[len(steps)] = Compared(fact, candidates)
            steps.append(step)
        failed = False
        if self._judge is not None and open_:
            try:
                judged = await self._judge.judge(tuple(open_.values()))
            except (RecollectError, BadModelAnswer) as error:
                if not may_go_by_rules:
                    raise
                log.warning("small model did not compare, rules did", error=str(error))
                failed = True
            else:
                for position, judgement in zip(open_, judged, strict=True):
                    steps[position] = _step(steps[position].fact, judgement)
        return Plan(_one_change_each(steps), as_of, by_rules=failed)

    async def _similar(self, scope: Scope, fact: Fact) -> tuple[Fact, ...]:
        """Return the facts held that say the same, and those that are like it."""
        found = await self._facts.same_facts(scope, fact.text)
        ids = dict.fromkeys(held.fact_id for held in found)
        for query in filter(None, (fact.text, other_words(fact.text))):
            result = await self._index.search(
                scope,
                query,
                kinds=frozenset({MemoryKind.FACT}),
                filter=RecallFilter(),
                limit=CANDIDATES,
            )
            ids |= dict.fromkeys(ranked.item_id for ranked in result.ranked)
        held = await self._facts.get_facts(scope, list(ids))
        now = self._clock()
        return tuple(f for f in held if f.holds_at(now))


_STORES = (FactAction.ADDED, FactAction.SUPERSEDED)


def by_rules(fact: Fact, held: Sequence[Fact]) -> Step:
    """Return what follows from a statement if only rules compare it; see `memory.statements`."""
    if fact.valid_to is not None:
        return Step(fact)
    found: dict[Relation, list[Fact]] = {}
    for other in held:
        found.setdefault(relation(fact.text, other.text), []).append(other)
    if same := found.get(Relation.SAME):
        return _same(fact, same[0])
    if more := found.get(Relation.LESS):
        return Step(fact, FactAction.IGNORED, (more[0],))
    if less := found.get(Relation.MORE):
        return Step(fact, FactAction.MERGED, (less[0],), fact.text)
    if contradicted := found.get(Relation.CONTRADICTS):
        return _superseding(fact, contradicted)
    return Step(fact)


def _same(fact: Fact, held: Fact) -> Step:
    both = merged(held, fact, held.text)
    unchanged = both.metadata == held.metadata and both.kind == held.kind
    action = FactAction.IGNORED if unchanged else FactAction.MERGED
    return Step(fact, action, (held,), held.text)


def _superseding(fact: Fact, contradicted: Sequence[Fact]) -> Step:
    """Close what was said earlier; a statement older than what it contradicts is closed itself."""
    before = tuple(f for f in contradicted if f.valid_from <= fact.valid_from)
    after = [f for f in contradicted if f.valid_from > fact.valid_from]
    if after:
        next_ = min(after, key=lambda f: f.valid_from)
        fact = replace(fact, valid_to=next_.valid_from, superseded_by=next_.fact_id)
    return Step(fact, FactAction.SUPERSEDED if before else FactAction.ADDED, before)


def _step(fact: Fact, judgement: Judgement) -> Step:
    if judgement.action is FactAction.SUPERSEDED:
        return _superseding(fact, judgement.targets)
    return Step(fact, judgement.action, judgement.targets, judgement.text)


def _after(held: Sequence[Fact], steps: Sequence[Step]) -> tuple[Fact, ...]:
    """Return facts as they will be after some steps: without those closed, with those merged."""
    closed = {t.fact_id for s in steps if s.action is FactAction.SUPERSEDED for t in s.targets}
    next_ = {s.targets[0].fact_id: s.preview for s in steps if s.action is FactAction.MERGED}
    return tuple(next_.get(f.fact_id, f) for f in held if f.fact_id not in closed)


def _says_the_same(step: Step) -> bool:
    """Whether a step follows from equal words, which need no judge."""
    merges = step.action is FactAction.MERGED and step.text == step.targets[0].text
    return merges or step.action is FactAction.IGNORED


def _among(targets: Sequence[Fact], facts: Sequence[Fact]) -> bool:
    ids = {fact.fact_id for fact in facts}
    return any(target.fact_id in ids for target in targets)


def _one_change_each(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Let a fact be changed by one step of a plan; what else would change it is added beside it.

    A merged fact may still be ended by a later step, or be all that one says.

    A step about a statement that is not stored after all is about what that one was merged with.
    """
    instead = {s.fact.fact_id: s.targets[0] for s in steps if s.action not in _STORES}
    changed: set[str] = set()
    grown: set[str] = set()
    kept: list[Step] = []
    for step in steps:
        taken = changed if step.action is FactAction.MERGED else changed - grown
        targets = tuple(
            t for target in step.targets
            if (t := instead.get(target.fact_id, target)).fact_id not in taken
        )  # fmt: skip
        if step.targets and not targets:
            step = replace(step, action=FactAction.ADDED, text="")
        step = replace(step, targets=targets)
        ids = {target.fact_id for target in targets}
        if step.action is FactAction.MERGED:
            grown |= ids
        if step.action is FactAction.SUPERSEDED:
            grown -= ids
        if step.action is not FactAction.IGNORED:
            changed |= ids
        kept.append(step)
    return tuple(kept)

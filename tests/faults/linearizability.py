"""Whether one session's history can be explained by calls that took effect one at a time.

The model is a session as (revision, texts of its messages, where context starts), at first (1,
none, at the first message):

- an append steps the revision by one and adds its texts, if `expected_revision` is unset or is the
  revision; its answer names the new revision and the texts' sequences;
- a refused append changes nothing and is allowed only where the revision is the one it was told,
  which is not the one it expected;
- a summary or a clearing steps the revision by one and adds nothing; Watch told all of them with
  the revisions they made, and context starts after the newest clearing;
- a read shows the state, or the parts of it that the read returns;
- a call without an answer takes effect once at any time after its invocation, or never;
- calls with one request id are one append, which takes effect at most once and is answered in one
  way; a repeat that is refused comes before that effect.

Each effect lies between invocation and return. The search is Wing and Gong's with Lowe's list of
events and memoisation: from the operations that nothing unplaced precedes, place one that the model
allows, and go back when none is left. Three facts keep it near linear for appends that were
answered, whatever their number:

- An answered append names the revision it made, so at revision r the one that names r + 1 is the
  only choice. Only where no answered append names r + 1 may an append without an answer come, and
  only one whose texts are those that the longest read shows at that place.
- Reads and refusals change nothing, so one that fits is placed at once: if some order has it later,
  then the order that has it now is right too.
- Sessions only grow, so one unplaced read or answer that the state has passed ends a branch.

What is left to search is the order of appends without an answer beyond the longest read.
"""

import math
from collections.abc import Iterable

from tests.faults.history import Append, Appended, Call, Read, Seen, Step
from tests.faults.operations import (
    Effect,
    Look,
    Operation,
    Refusal,
    disagreement,
    operations_of,
)

MAX_STATES = 1_000_000
"""Of memoised states: some hundred bytes and one bit for each operation, each."""

SHOWN = 4


class TooHardError(Exception):
    """The search was given up; nothing is known of the history."""


class _Event:
    """An invocation or a return in a doubly linked list, after Lowe."""

    __slots__ = ("after", "before", "operation", "returns")

    def __init__(self, operation: Operation | None, returns: bool) -> None:
        self.operation = operation
        self.returns = returns
        self.before: _Event | None = None
        self.after: _Event | None = None

    def take(self) -> None:
        """Take it out of the list; it remembers its place."""
        assert self.before is not None
        self.before.after = self.after
        if self.after is not None:
            self.after.before = self.before

    def put_back(self) -> None:
        """Put it back; takes are undone in the reverse order."""
        assert self.before is not None
        self.before.after = self
        if self.after is not None:
            self.after.before = self


def check(calls: Iterable[Call]) -> str | None:
    """Return None if one session's history is linearisable, else what contradicts it.

    Args:
        calls: all calls on a session since it was created, in any order; other calls are ignored.

    Raises:
        TooHardError: more than MAX_STATES states were tried.
    """
    found = [call for call in calls if isinstance(call.request, Append | Read | Step)]
    operations, contradiction = operations_of(found)
    contradiction = contradiction or disagreement(operations)
    return contradiction or _Search(operations).run()


class _Search:
    """The search; see the module.

    Args:
        operations: those of one session, none of which contradicts another by itself.
    """

    def __init__(self, operations: list[Operation]) -> None:
        self._operations = operations
        self._head = _Event(None, False)
        self._events: dict[int, tuple[_Event, _Event]] = {}
        self._link()
        self._must = sum(o.returned < math.inf for o in operations)
        effects = [o for o in operations if isinstance(o, Effect)]
        self._made = {e.result.revision: e for e in effects if e.result is not None}
        shown = [o.seen.texts for o in operations if isinstance(o, Look) and o.seen.texts]
        self._longest: tuple[str, ...] = max(shown, key=len, default=())
        self._revision = 1
        self._texts: list[str] = []
        self._starts = [0]
        self._chain = [0]
        self._chains: dict[tuple[int, str], int] = {}
        self._placed: list[Operation] = []
        self._bits = 0
        self._deepest: tuple[int, str] = (-1, "")

    def _link(self) -> None:
        ordered: list[tuple[float, bool, _Event]] = []
        for operation in self._operations:
            call, answer = _Event(operation, False), _Event(operation, True)
            self._events[operation.bit] = call, answer
            ordered += [(operation.invoked, False, call), (operation.returned, True, answer)]
        last = self._head
        for _, _, event in sorted(ordered, key=lambda item: item[:2]):
            last.after, event.before = event, last
            last = event

    def run(self) -> str | None:
        """Return None if an order was found, else an explanation."""
        seen: set[tuple[int, int]] = set()
        frames: list[tuple[int, list[Effect]]] = []
        while True:
            self._place_what_fits()
            if self._must == 0:
                return None
            state = (self._bits, self._chain[-1])
            choices = self._choices() if state not in seen else []
            seen.add(state)
            if len(seen) > MAX_STATES:
                raise TooHardError(f"gave up after {MAX_STATES} states")
            if not choices and len(self._placed) > self._deepest[0]:
                self._deepest = len(self._placed), self._explanation()
            frames.append((len(self._placed), choices))
            while frames and not frames[-1][1]:
                frames.pop()
            if not frames:
                return self._deepest[1]
            mark, choices = frames[-1]
            self._go_back(mark)
            self._place(choices.pop())

    def _place_what_fits(self) -> None:
        """Place reads and refusals until none is left that nothing precedes and that fits."""
        while fits := [
            o for o in self._next() if not isinstance(o, Effect) and not self._contradiction(o)
        ]:
            for operation in fits:
                self._place(operation)

    def _choices(self) -> list[Effect]:
        """Return the appends that may come next, the likeliest last."""
        candidates = list(self._next())
        if any(self._passed(o) for o in candidates):
            return []
        known = self._made.get(self._revision + 1)
        return [
            o
            for o in candidates
            if isinstance(o, Effect)
            and (o is known if known is not None else o.result is None)
            and not self._contradiction(o)
        ]

    def _next(self) -> Iterable[Operation]:
        """Yield the operations that nothing unplaced precedes."""
        event = self._head.after
        while event is not None and not event.returns:
            assert event.operation is not None
            yield event.operation
            event = event.after

    def _contradiction(self, operation: Operation) -> str:
        """Return why an operation cannot come now, "" if it can."""
        match operation:
            case Effect():
                return self._append_contradiction(operation)
            case Refusal():
                if operation.effect is not None and operation.effect.bit & self._bits:
                    return "it is refused after it took effect"
                if operation.current != self._revision:
                    return f"it was told revision {operation.current}"
                refused = operation.expected not in (None, self._revision)
                return "" if refused else "it is refused though its revision is the session's"
            case Look():
                return self._read_contradiction(operation.seen)

    def _append_contradiction(self, effect: Effect) -> str:
        expected, texts, count = effect.request.expected_revision, effect.request.texts, self._count
        if expected not in (None, self._revision):
            return f"it expects revision {expected}"
        shown = self._longest[count : count + len(texts)]
        if shown != texts[: len(shown)]:
            return f"a read shows {shown} here"
        result = effect.result
        if result is None:
            return ""
        if result.revision != self._revision + 1:
            return f"it made revision {result.revision}, not {self._revision + 1}"
        placed = (result.first_sequence, result.last_sequence)
        right = (count + 1, count + len(texts))
        return "" if placed == right else f"it was stored at {placed}, not {right}"

    def _read_contradiction(self, seen: Seen) -> str:
        if seen.revision not in (None, self._revision):
            return f"it shows revision {seen.revision}"
        if seen.last_sequence not in (None, self._count):
            return f"it shows {seen.last_sequence} messages"
        # Of equal length they are equal: every placed append agrees with the longest read.
        if seen.texts is not None and len(seen.texts) != self._count:
            return f"it shows {len(seen.texts)} messages"
        if seen.tail is not None:
            start = max(self._starts[-1], self._count - seen.tail_size)
            tail = tuple(self._texts[start:])
            if seen.tail != tail:
                return f"it shows the newest messages {seen.tail}, not {tail}"
        return ""

    def _passed(self, operation: Operation) -> bool:
        """Whether an operation that must come can come neither now nor later."""
        match operation:
            case Effect(result=None):
                return False
            case Effect(result=Appended(revision=revision)):
                return revision <= self._revision
            case Refusal():
                return operation.current < self._revision
            case Look(seen=seen):
                shown = len(seen.texts) if seen.texts is not None else seen.last_sequence
                late = seen.revision is not None and seen.revision < self._revision
                return late or (shown is not None and shown < self._count)
        raise AssertionError(operation)

    @property
    def _count(self) -> int:
        return len(self._texts)

    def _place(self, operation: Operation) -> None:
        call, answer = self._events[operation.bit]
        call.take()
        answer.take()
        self._placed.append(operation)
        self._bits |= operation.bit
        self._must -= operation.returned < math.inf
        if isinstance(operation, Effect):
            self._revision += 1
            if operation.clears:
                self._starts.append(self._count)
            for text in operation.request.texts:
                self._texts.append(text)
                # Numbers instead of texts make equal states quick to find.
                key = (self._chain[-1], text)
                self._chain.append(self._chains.setdefault(key, len(self._chains) + 1))

    def _go_back(self, mark: int) -> None:
        """Undo what was placed after the first `mark` operations."""
        while len(self._placed) > mark:
            operation = self._placed.pop()
            call, answer = self._events[operation.bit]
            answer.put_back()
            call.put_back()
            self._bits ^= operation.bit
            self._must += operation.returned < math.inf
            if isinstance(operation, Effect):
                self._revision -= 1
                if operation.clears:
                    self._starts.pop()
                del self._texts[self._count - len(operation.request.texts) :]
                del self._chain[self._count + 1 :]

    def _explanation(self) -> str:
        lines = [
            f"{len(self._placed)} of {len(self._operations)} operations can be put in order; then "
            f"the session is at revision {self._revision} with {self._count} messages, the newest "
            f"{self._texts[-SHOWN:]}. Placed last:",
            *(f"  {o.call}" for o in self._placed[-SHOWN:]),
            "None of these can be next:",
            *(f"  {o.call}: {self._contradiction(o) or 'dead end'}" for o in self._next()),
        ]
        return "\n".join(lines)

"""A session's calls as the operations that must be put in order.

All calls with one request id are one append; each of its refused calls is an operation too. A step
that Watch showed is an append of nothing.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from tests.faults.history import Append, Appended, Call, Read, Refused, Seen, Step


@dataclass(slots=True, eq=False)
class Effect:
    """An append: all calls with its request id.

    Attributes:
        invoked: of the first call that may have done it.
        returned: of the first call that was answered; infinite if none was.
        result: None if none was.
        clears: context starts after it.
    """

    bit: int
    call: Call
    invoked: float
    returned: float
    request: Append
    result: Appended | None
    clears: bool = False


@dataclass(slots=True, eq=False)
class Refusal:
    """A refused call of an append; `effect` is of its other calls, if they may have one."""

    bit: int
    call: Call
    invoked: float
    returned: float
    expected: int | None
    current: int
    effect: Effect | None


@dataclass(slots=True, eq=False)
class Look:
    """A read."""

    bit: int
    call: Call
    invoked: float
    returned: float
    seen: Seen


Operation = Effect | Refusal | Look


def operations_of(calls: list[Call]) -> tuple[list[Operation], str | None]:
    """Return the operations of the calls, or what contradicts calls with one request id."""
    operations: list[Operation] = []
    appends: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        if isinstance(call.request, Append):
            appends[call.request.request_id].append(call)
        elif isinstance(call.request, Step):
            operations.append(_step(call, call.request, 1 << len(operations)))
        elif isinstance(call.request, Read) and isinstance(call.outcome, Seen):
            returned = math.inf if call.returned is None else call.returned
            bit = 1 << len(operations)
            operations.append(Look(bit, call, call.invoked, returned, call.outcome))
    for attempts in appends.values():
        answers = {call.outcome for call in attempts if isinstance(call.outcome, Appended)}
        if len(answers) > 1:
            return [], _lines("one request id was answered in two ways:", attempts)
        if len({call.request for call in attempts}) > 1:
            return [], _lines("one request id was used for two requests:", attempts)
        _add_append(operations, attempts)
    return operations, None


def _step(call: Call, step: Step, bit: int) -> Effect:
    assert isinstance(call.outcome, Appended)
    assert call.returned is not None
    nothing = Append(f"step to revision {call.outcome.revision}", ())
    return Effect(bit, call, call.invoked, call.returned, nothing, call.outcome, step.clears)


def _add_append(operations: list[Operation], attempts: list[Call]) -> None:
    request = attempts[0].request
    assert isinstance(request, Append)
    effect = None
    if doing := [call for call in attempts if not isinstance(call.outcome, Refused)]:
        first = min(doing, key=lambda call: call.invoked)
        answered = [call for call in doing if isinstance(call.outcome, Appended)]
        returned = min((call.returned or 0 for call in answered), default=math.inf)
        result = next((c.outcome for c in answered if isinstance(c.outcome, Appended)), None)
        told = answered[0] if answered else first
        bit = 1 << len(operations)
        effect = Effect(bit, told, first.invoked, returned, request, result)
        operations.append(effect)
    for call in attempts:
        if isinstance(call.outcome, Refused) and call.returned is not None:
            bit = 1 << len(operations)
            current, expected = call.outcome.current_revision, request.expected_revision
            operations.append(
                Refusal(bit, call, call.invoked, call.returned, expected, current, effect)
            )


def disagreement(operations: list[Operation]) -> str | None:
    """Return what answers contradict whatever their times are."""
    reads = sorted(
        (o for o in operations if isinstance(o, Look) and o.seen.texts is not None),
        key=lambda look: len(look.seen.texts or ()),
    )
    for short, long in pairwise(reads):
        assert short.seen.texts is not None
        assert long.seen.texts is not None
        if long.seen.texts[: len(short.seen.texts)] != short.seen.texts:
            return _lines("two reads show different messages:", [short.call, long.call])
    longest = (reads[-1].seen.texts or ()) if reads else ()
    made: dict[int, Effect] = {}
    for effect in operations:
        if not isinstance(effect, Effect) or effect.result is None:
            continue
        result = effect.result
        if (other := made.setdefault(result.revision, effect)) is not effect:
            return _lines("two appends made one revision:", [other.call, effect.call])
        shown = longest[result.first_sequence - 1 : result.last_sequence]
        if shown and shown != effect.request.texts[: len(shown)]:
            what = "a read shows other messages where an append was stored:"
            return _lines(what, [effect.call, reads[-1].call])
    return None


def _lines(what: str, calls: Iterable[Call]) -> str:
    return "\n".join([what, *(f"  {call}" for call in calls)])

"""Histories of an imaginary server that is right, and a second checker too simple to be wrong."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from random import Random

from tests.faults.history import (
    Append,
    Appended,
    Call,
    Failed,
    History,
    Outcome,
    Read,
    Refused,
    Request,
    Seen,
    Unknown,
)

SESSION = "s"
TAIL_SIZE = 2


@dataclass(slots=True)
class Model:
    """A session and the request ids it knows."""

    texts: list[str] = field(default_factory=list)
    revision: int = 1
    results: dict[str, tuple[Append, Appended]] = field(default_factory=dict)

    def run(self, request: Request) -> Outcome:
        """Run a call and return its answer."""
        if isinstance(request, Append):
            return self._append(request)
        match request:
            case Read("session"):
                return Seen(self.revision, len(self.texts))
            case Read("messages"):
                return Seen(texts=tuple(self.texts))
            case Read("both"):
                return Seen(self.revision, len(self.texts), tuple(self.texts))
            case Read("context"):
                return Seen(self.revision, tail=tuple(self.texts[-TAIL_SIZE:]), tail_size=TAIL_SIZE)
        raise AssertionError(request)

    def _append(self, request: Append) -> Outcome:
        if request.request_id in self.results:
            first, result = self.results[request.request_id]
            return result if first == request else Failed("another request has this id")
        if request.expected_revision not in (None, self.revision):
            return Refused(self.revision)
        count = len(self.texts)
        self.texts += request.texts
        self.revision += 1
        result = Appended(count + 1, len(self.texts), self.revision)
        self.results[request.request_id] = request, result
        return result


@dataclass(slots=True, eq=False)
class _Running:
    call: Call
    answer: Outcome | None = None


def simulate(random: Random, clients: int, steps: int, lossy: float = 0.1) -> list[Call]:
    """Return a history that is linearisable.

    Args:
        steps: each invokes, runs or answers one call.
        lossy: share of calls that lose their connection, before or after they ran; what has not
            run may still run later.
    """
    model, history = Model(), History(clock=_ticks().__next__)
    running: dict[int, _Running] = {}
    lost: list[_Running] = []
    for step in range(steps):
        client = random.randrange(clients)
        if client not in running:
            request = _request(random, step, model, history, client)
            running[client] = _Running(history.begin(client, SESSION, request))
        elif random.random() < lossy:
            lost.append(running.pop(client))
            history.end(lost[-1].call, Unknown("lost"))
        elif (current := running[client]).answer is None:
            current.answer = model.run(current.call.request)
        else:
            history.end(running.pop(client).call, current.answer)
        if lost and random.random() < 0.2 and (late := random.choice(lost)).answer is None:
            late.answer = model.run(late.call.request)
    return history.calls


def _ticks() -> Iterator[int]:
    now = 0
    while True:
        yield (now := now + 1)


def _request(random: Random, step: int, model: Model, history: History, client: int) -> Request:
    mine = [c.request for c in history.calls[-40:] if c.client == client]
    appends = [request for request in mine if isinstance(request, Append)]
    if appends and random.random() < 0.2:
        return random.choice(appends)
    if random.random() < 0.4:
        return Read(random.choice(["session", "messages", "both", "context"]))
    texts = tuple(f"{step}.{n}" for n in range(random.randint(1, 3)))
    wanted = max(0, model.revision - random.choice([0, 0, 1]))
    return Append(f"r{step}", texts, random.choice([None, wanted]))


def is_linearisable(calls: Iterable[Call]) -> bool:
    """Try every order of the calls: only for a dozen."""
    calls = list(calls)
    unanswered = [c for c in calls if isinstance(c.outcome, Unknown) or c.outcome is None]
    maybe = [c for c in unanswered if isinstance(c.request, Append)]
    return _explain([c for c in calls if c not in unanswered], maybe, Model())


def _explain(must: list[Call], maybe: list[Call], model: Model) -> bool:
    if not must:
        return True
    first_return = min(c.returned or 0 for c in must)
    for call in [c for c in must + maybe if c.invoked <= first_return]:
        then = Model(list(model.texts), model.revision, dict(model.results))
        answer = then.run(call.request)
        fits = call in maybe or answer == call.outcome
        if fits and _explain(_but(must, call), _but(maybe, call), then):
            return True
    return False


def _but(calls: list[Call], one: Call) -> list[Call]:
    return [call for call in calls if call is not one]


def mutate(random: Random, calls: list[Call]) -> list[Call]:
    """Return the calls with one thing changed, whether or not that makes them wrong."""
    calls = [replace(call) for call in calls]
    answered = [c for c in calls if isinstance(c.outcome, Appended | Seen | Refused)]
    if not answered:
        return calls
    call = random.choice(answered)
    change = random.choice([_change_answer, _change_answer, _change_answer, _shift, _forget])
    change(random, calls, call)
    return calls


def _change_answer(random: Random, calls: list[Call], call: Call) -> None:
    by = random.choice([-1, 1])
    match call.outcome:
        case Appended(first, last, revision):
            call.outcome = random.choice(
                [
                    Appended(first, last, revision + by),
                    Appended(first + by, last + by, revision),
                    Appended(first, last + by, revision),
                    Refused(revision - 1),
                ]
            )
        case Refused(current):
            call.outcome = Refused(current + by)
        case Seen() as seen:
            call.outcome = _change_seen(random, seen, by)


def _change_seen(random: Random, seen: Seen, by: int) -> Seen:
    changes: list[Callable[[tuple[str, ...]], tuple[str, ...]]] = [
        lambda texts: texts[:-1],
        lambda texts: texts[::-1],
        lambda texts: (*texts, texts[-1]) if texts else texts,
        lambda texts: (*texts, "never said"),
        lambda texts: texts[1:],
    ]
    if seen.texts is not None:
        return replace(seen, texts=random.choice(changes)(seen.texts))
    if seen.tail is not None and random.random() < 0.5:
        return replace(seen, tail=random.choice(changes)(seen.tail))
    return replace(seen, revision=(seen.revision or 0) + by)


def _shift(random: Random, calls: list[Call], call: Call) -> None:
    """Move a call past all others, or before them."""
    far = random.choice([-1, 1]) * (max(c.returned or 0 for c in calls) + 1)
    call.invoked += far
    call.returned = (call.returned or 0) + far


def _forget(random: Random, calls: list[Call], call: Call) -> None:
    calls.remove(call)

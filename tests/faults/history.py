"""What concurrent clients asked and what they were told, with the times of both.

Times are nanoseconds of `time.monotonic_ns`, so calls of one process can be compared.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Append:
    """AppendMessages.

    Attributes:
        request_id: a call with the id of an earlier one is a repeat of it.
        expected_revision: None for any.
    """

    request_id: str
    texts: tuple[str, ...]
    expected_revision: int | None = None


@dataclass(frozen=True, slots=True)
class Clear:
    """ClearSession."""


@dataclass(frozen=True, slots=True)
class Step:
    """A change of a session that is no append, as Watch showed it: a summary, or a clearing.

    Attributes:
        start: sequence of the first message that context may show after it.
        through: sequence of the last message that the summary covers, 0 without a summary.
        summary: the summary's text.
    """

    start: int
    through: int = 0
    summary: str = ""

    @property
    def clears(self) -> bool:
        """Whether it is ClearSession's: nothing else leaves a session without a summary."""
        return self.through == 0


@dataclass(frozen=True, slots=True)
class Read:
    """A call that shows a session's state: `what` is its method."""

    what: str


@dataclass(frozen=True, slots=True)
class Other:
    """A call that neither shows nor changes a session: `what` is its method."""

    what: str
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Appended:
    """An append that was acknowledged.

    Attributes:
        revision: the session's, after it.
        user_revision: the user's, after it; 0 if nobody asks for it.
    """

    first_sequence: int
    last_sequence: int
    revision: int
    user_revision: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """What a read showed of one state of the session; None for what it does not show.

    Attributes:
        last_sequence: number of messages, as sequences have no gaps.
        texts: all messages, oldest first.
        tail: the newest `tail_size` messages or all if there are fewer, oldest first; none that
            were cleared from context.
        through: sequence of the last message that the summary covers, 0 without a summary.
        open: the messages after the summary, oldest first.
        open_from: sequence of the first of them; 0 if there are none.
        system: what was shown beside the messages.
    """

    revision: int | None = None
    last_sequence: int | None = None
    texts: tuple[str, ...] | None = None
    tail: tuple[str, ...] | None = None
    tail_size: int = 0
    through: int | None = None
    open: tuple[str, ...] | None = None
    open_from: int = 0
    system: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """A call outside sessions that was answered."""

    user_revision: int = 0


@dataclass(frozen=True, slots=True)
class Cleared:
    """A session that was cleared; `revision` is its revision after it."""

    revision: int


@dataclass(frozen=True, slots=True)
class Refused:
    """ABORTED: nothing was changed, the session was at `current_revision`."""

    current_revision: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """No answer: it happened, will happen or never happens."""

    why: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An answer that no call of the load may get; as with `Unknown` it may have happened."""

    why: str


Request = Append | Clear | Step | Read | Other
Outcome = Appended | Cleared | Seen | Done | Refused | Unknown | Failed


@dataclass(slots=True, eq=False)
class Call:
    """One call of one client.

    Attributes:
        session: "" for calls outside sessions.
        invoked: nanoseconds, taken before the call.
        returned: nanoseconds, taken after it; None while it runs.
        outcome: None while it runs.
    """

    client: int
    session: str
    request: Request
    invoked: int
    returned: int | None = None
    outcome: Outcome | None = None

    def __str__(self) -> str:
        returned = "..." if self.returned is None else f"{self.returned / 1e6:.3f}"
        times = f"{self.invoked / 1e6:.3f}-{returned} ms"
        what = [_short(str(text)) for text in (self.request, self.outcome or "no answer")]
        return f"client {self.client}, {times}: {' -> '.join(what)}"


@dataclass(slots=True)
class History:
    """The calls of one event loop in the order of their invocations.

    Attributes:
        clock: gives nanoseconds.
    """

    clock: Callable[[], int] = time.monotonic_ns
    calls: list[Call] = field(default_factory=list)
    acknowledged: int = 0

    def begin(self, client: int, session: str, request: Request) -> Call:
        """Record an invocation; make it just before the call."""
        call = Call(client, session, request, self.clock())
        self.calls.append(call)
        return call

    def end(self, call: Call, outcome: Outcome) -> None:
        """Record a call's outcome; do it just after the call."""
        call.returned = self.clock()
        call.outcome = outcome
        self.acknowledged += isinstance(outcome, Appended)

    def of(self, session: str) -> list[Call]:
        """Return a session's calls."""
        return [call for call in self.calls if call.session == session]

    def appended(self, session: str) -> Iterator[tuple[int, Append, Appended]]:
        """Yield client, request and answer of a session's acknowledged appends, each once."""
        seen = set()
        for call in self.of(session):
            request, outcome = call.request, call.outcome
            if isinstance(request, Append) and isinstance(outcome, Appended):
                if request.request_id not in seen:
                    yield call.client, request, outcome
                seen.add(request.request_id)

    def failed(self) -> list[Call]:
        """Return the calls with answers that no call may get."""
        return [call for call in self.calls if isinstance(call.outcome, Failed)]

    def counts(self) -> Counter[str]:
        """Return how many calls ended in each way."""
        return Counter(type(call.outcome).__name__.lower() for call in self.calls)

    def dump(self, file: Path) -> None:
        """Write a JSON line for each call, for people and other checkers."""
        with file.open("w") as out:
            for call in self.calls:
                line = asdict(call) | {
                    "kind": type(call.request).__name__,
                    "ended": type(call.outcome).__name__,
                }
                out.write(json.dumps(line) + "\n")


def _short(text: str, most: int = 240) -> str:
    """Return a text with its middle left out if it has more than `most` characters."""
    half = most // 2
    return text if len(text) <= most else f"{text[:half]} ... {text[-half:]}"

"""What befalls the stack, and which errors its users may see of that."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from tests.soak.stack import Stack

SLOW = timedelta(milliseconds=200)

STORE = "UNAVAILABLE STORE_UNAVAILABLE"
MODEL = frozenset({"Chat UNAVAILABLE MODEL_UNAVAILABLE"})
ANSWERS = frozenset({f"Store {STORE}"})
"""An answer that cannot be kept is not acknowledged."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong and is put right again.

    Attributes:
        shows: the errors that calls may end with meanwhile: their code and reason, after the method
            and a space where only one may.
    """

    name: str
    begin: Callable[[Stack], None]
    end: Callable[[Stack], None]
    shows: frozenset[str] = frozenset()

    def explains(self, what: str, how: str) -> bool:
        """Whether a call of a method may fail in this way."""
        return how in self.shows or f"{what} {how}" in self.shows


def _nothing(_: Stack) -> None:
    pass


def _stop_chroma(stack: Stack) -> None:
    stack.chroma.stop()
    stack.chroma.lose()


def _delay(seconds: float) -> Callable[[Stack], None]:
    def set_delay(stack: Stack) -> None:
        for link in stack.links:
            link.delay = seconds

    return set_delay


def _start_postgres(stack: Stack) -> None:
    stack.postgres.start()


FAULTS = (
    Fault("a server process is killed", Stack.kill_a_server, _nothing),
    Fault("Valkey is lost", lambda s: s.valkey.kill(), lambda s: s.valkey.start(), ANSWERS),
    Fault(
        "PostgreSQL is restarted",
        lambda s: s.postgres.kill(),
        _start_postgres,
        frozenset({STORE}),
    ),
    Fault("Chroma and its data are lost", _stop_chroma, lambda s: s.chroma.start()),
    Fault("the model is down", lambda s: s.api.down(), lambda s: s.api.up(), MODEL),
    Fault("200 ms to Valkey and PostgreSQL", _delay(SLOW.total_seconds()), _delay(0.0)),
    Fault(
        "Valkey is frozen",
        lambda s: s.valkey.send(signal.SIGSTOP),
        lambda s: s.valkey.send(signal.SIGCONT),
        ANSWERS,
    ),
)

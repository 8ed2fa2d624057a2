"""Keeps the turns that this process runs: their leases, their events, and who follows them."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog

from recollect_server.chat.model import TurnState
from recollect_server.chat.ports import (
    Cancel,
    Follow,
    HeldTurn,
    Kept,
    News,
    Relay,
    RelayMessage,
    TurnStore,
)
from recollect_server.chat.running import RunningTurn
from recollect_server.chat.turn import ChatEvent, Done, Interrupted
from recollect_server.errors import RecollectError
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.chat")

LEASE_SECONDS = 15.0
"""How long after its last sign of life a turn counts as running."""
GIVE_UP_SECONDS = 12.0
"""A turn whose lease could not be prolonged for so long is given up here, before others may take
it over: the difference is for clocks that differ."""
KEEP_SECONDS = 1.0
KEEP_TIMEOUT_SECONDS = 5.0
SWEEP_SECONDS = 5.0
PRUNE_SECONDS = 60.0
RELAY_SECONDS = 0.05
"""Events of this time go to a follower's process in one message."""
FOLLOWED_SECONDS = 10.0
"""How long a follower is sent to that does not ask again."""


@dataclass(slots=True)
class _Held:
    """A turn that runs here.

    Attributes:
        kept: sequence of the last event in the store.
        renewed: when its lease was last prolonged, by the monotonic clock.
        closing: its end is being written, so it is no longer kept.
        followers: by process, the last sequence sent to it and when it asked last.
    """

    scope: Scope
    turn_id: str
    attempt: int
    run: RunningTurn
    renewed: float
    kept: int = 0
    closing: bool = False
    followers: dict[str, tuple[int, float]] = field(default_factory=dict)


class Keeper:
    """See the module; `run` must be running.

    Args:
        relay: takes events to followers in other processes.
    """

    def __init__(self, turns: TurnStore, relay: Relay) -> None:
        self._turns = turns
        self._relay = relay
        self._held: dict[str, _Held] = {}
        self._busy = asyncio.Event()
        self._followed = asyncio.Event()
        self._heard: dict[str, set[Callable[[News], None]]] = {}
        relay.receive(self._receive)

    @property
    def process(self) -> str:
        """This process's name."""
        return self._relay.process

    def hold(self, scope: Scope, turn_id: str, attempt: int, run: RunningTurn) -> None:
        """Keep a turn from now on; its lease has just begun."""
        self._held[turn_id] = _Held(scope, turn_id, attempt, run, time.monotonic())
        self._busy.set()

    def closing(self, turn_id: str, run: RunningTurn) -> tuple[ChatEvent, ...]:
        """Return the events of a turn that are not in the store; its end is being written."""
        held = self._held.get(turn_id)
        if held is None or held.run is not run:
            return ()
        held.closing = True
        return held.run.since(held.kept)

    def release(self, turn_id: str, run: RunningTurn) -> None:
        """Keep a turn no more: it has ended. Another attempt at it stays."""
        held = self._held.get(turn_id)
        if held is None or held.run is not run:
            return
        del self._held[turn_id]
        for process, (sent, _) in held.followers.items():
            self._send(held, process, sent)
            self._relay.send(process, News(turn_id, held.attempt, ()))

    def find(self, scope: Scope, turn_id: str) -> RunningTurn | None:
        """Return a turn of the scope that runs here."""
        held = self._held.get(turn_id)
        return held.run if held is not None and held.scope == scope else None

    def listen(self, turn_id: str, handler: Callable[[News], None]) -> None:
        """Give news of a turn that runs elsewhere to `handler`, until `unlisten`."""
        self._heard.setdefault(turn_id, set()).add(handler)

    def unlisten(self, turn_id: str, handler: Callable[[News], None]) -> None:
        """See `listen`."""
        handlers = self._heard.get(turn_id, set())
        handlers.discard(handler)
        if not handlers:
            self._heard.pop(turn_id, None)

    async def run(self) -> None:
        """Keep until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep())
            group.create_task(self._relay_events())
            group.create_task(_repeat(SWEEP_SECONDS, self._turns.interrupt_lapsed))
            group.create_task(_repeat(PRUNE_SECONDS, self._turns.prune_events))

    async def _keep(self) -> None:
        while True:
            await self._busy.wait()
            await asyncio.sleep(KEEP_SECONDS)
            if not self._held:
                self._busy.clear()
                continue
            held = [each for each in self._held.values() if not each.closing]
            if held:
                await self._keep_once(held)

    async def _keep_once(self, held: Sequence[_Held]) -> None:
        started = time.monotonic()
        turns = [HeldTurn(h.turn_id, h.attempt, _storable(h.run.since(h.kept))) for h in held]
        try:
            async with asyncio.timeout(KEEP_TIMEOUT_SECONDS):
                kept = await self._turns.keep_turns(self.process, turns, LEASE_SECONDS)
        except (RecollectError, TimeoutError):
            log.warning("turns not kept", turns=len(turns))
            kept = None
        for each, turn in zip(held, turns, strict=True):
            if each.closing:
                continue
            if kept is not None:
                _take_in(each, turn, kept, started)
            elif time.monotonic() - each.renewed > GIVE_UP_SECONDS:
                _lose(each)

    def _receive(self, message: RelayMessage) -> None:
        match message:
            case News(turn_id):
                for handler in tuple(self._heard.get(turn_id, ())):
                    handler(message)
            case Follow(turn_id, process, attempt, after):
                held = self._held.get(turn_id)
                if held is not None and held.attempt == attempt:
                    sent, _ = held.followers.get(process, (after, 0.0))
                    held.followers[process] = (min(sent, after), time.monotonic())
                    self._followed.set()
            case Cancel(turn_id):
                held = self._held.get(turn_id)
                if held is not None:
                    held.run.stop(TurnState.CANCELLED)

    async def _relay_events(self) -> None:
        while True:
            await self._followed.wait()
            await asyncio.sleep(RELAY_SECONDS)
            followed = [held for held in self._held.values() if held.followers]
            if not followed:
                self._followed.clear()
            for held in followed:
                forgotten = time.monotonic() - FOLLOWED_SECONDS
                for process, (sent, asked) in list(held.followers.items()):
                    if asked < forgotten:
                        del held.followers[process]
                    else:
                        held.followers[process] = (self._send(held, process, sent), asked)

    def _send(self, held: _Held, process: str, sent: int) -> int:
        events = _storable(held.run.since(sent))
        if events:
            self._relay.send(process, News(held.turn_id, held.attempt, events))
            return events[-1].sequence
        return sent


def _take_in(each: _Held, turn: HeldTurn, kept: Kept, started: float) -> None:
    if each.turn_id in kept.lost:
        _lose(each)
        return
    each.renewed = started
    if turn.events:
        each.kept = turn.events[-1].sequence
    if each.turn_id in kept.cancelled:
        each.run.stop(TurnState.CANCELLED)


def _lose(each: _Held) -> None:
    log.error("turn given up: its lease was lost", turn_id=each.turn_id, attempt=each.attempt)
    each.run.stop(TurnState.INTERRUPTED)


def _storable(events: tuple[ChatEvent, ...]) -> tuple[ChatEvent, ...]:
    """Return events without the end of the turn, which the turn's own row tells."""
    if events and isinstance(events[-1].happening, Done | Interrupted):
        return events[:-1]
    return events


async def _repeat(seconds: float, work: Callable[[], Awaitable[int]]) -> None:
    while True:
        try:
            await work()
        except RecollectError as error:
            log.debug("upkeep of turns waits", reason=error.reason)
        await asyncio.sleep(seconds)

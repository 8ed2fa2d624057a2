"""A turn that runs in this process: its events, written by its task and read by any number."""

import asyncio
from collections.abc import AsyncGenerator

from recollect_server.chat.model import TurnState
from recollect_server.chat.turn import ChatEvent, Happening

AHEAD = 256
"""Events that a turn may be ahead of the fastest of its readers before the model has to wait."""
GO_ON = 192
"""Events that it is ahead when the model goes on: one that is faster than all readers goes on for
many events at a time, not anew for each that is read."""


class RunningTurn:
    """See the module.

    Attributes:
        digest: of the request; another one under the same request_id is refused.
        attempt: of the turn that runs, 0 before it has begun.
        stopped: what the turn is to become by whoever stopped it, None while nobody did.
        readers: streams that read it now.
    """

    def __init__(self, digest: bytes) -> None:
        self.digest = digest
        self.task: asyncio.Task[None] | None = None
        self.attempt = 0
        self.stopped: TurnState | None = None
        self.readers = 0
        self._generation = 0
        self._events: list[ChatEvent] = []
        self._furthest = 0
        self._ended = False
        self._error: BaseException | None = None
        self._changed = asyncio.Event()
        self._read = asyncio.Event()

    @property
    def ended(self) -> bool:
        """Whether no more events come."""
        return self._ended

    @property
    def last_sequence(self) -> int:
        """Sequence of the last event."""
        return len(self._events)

    def since(self, sequence: int) -> tuple[ChatEvent, ...]:
        """Return the events after one."""
        return tuple(self._events[sequence:])

    def emit(self, happening: Happening) -> None:
        """Add an event."""
        self._events.append(ChatEvent(len(self._events) + 1, happening))
        self._changed.set()

    def restart(self) -> None:
        """Begin another attempt: its events count from 1, and every reader gets all of them."""
        self._generation += 1
        self._events = []
        self._furthest = 0
        self._read.set()

    @property
    def full(self) -> bool:
        """Whether every reader is far behind: `room` would wait."""
        return len(self._events) - self._furthest >= AHEAD and self.readers > 0

    async def room(self) -> None:
        """Wait while every reader is far behind, so that memory holds no more than they read.

        A turn that nobody reads does not wait.
        """
        if self.full:
            while self.readers and len(self._events) - self._furthest > GO_ON:
                self._read.clear()
                await self._read.wait()

    def stop(self, state: TurnState) -> None:
        """End the turn from outside; the first one to say so decides what it becomes."""
        if self.task is not None and self.stopped is None and not self.task.done():
            self.stopped = state
            self.task.cancel()

    def end(self, error: BaseException | None = None) -> None:
        """No more events come; readers get `error` after the last one."""
        self._ended = True
        self._error = error
        self._changed.set()

    async def events(self, after: int = 0, *, cancel: bool = False) -> AsyncGenerator[ChatEvent]:
        """Yield every event after a sequence, as it comes.

        Args:
            cancel: closing the iterator before the turn's end cancels it, unless others read it.

        Raises:
            RecollectError: what ended the turn, if it failed.
        """
        position, generation = after, self._generation
        self.readers += 1
        try:
            while True:
                while position < len(self._events):
                    event = self._events[position]
                    position += 1
                    yield event
                    if generation != self._generation:
                        break
                    if position > self._furthest:
                        self._furthest = position
                        if len(self._events) - position <= GO_ON:
                            self._read.set()
                if generation != self._generation:
                    position, generation = 0, self._generation
                elif self._ended:
                    break
                else:
                    changed = self._changed
                    await changed.wait()
                    if changed is self._changed:
                        self._changed = asyncio.Event()
        finally:
            self.readers -= 1
            self._read.set()
            if cancel and not self._ended and not self.readers:
                self.stop(TurnState.CANCELLED)
        if self._error is not None:
            raise self._error

"""Chat: starts turns, joins repeats of a running one, and lets any number of streams follow."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from recollect_server.chat.job import Collaborators, TurnJob, TurnRequest
from recollect_server.chat.model import TurnState
from recollect_server.chat.turn import ChatEvent, Done, RunningTurn, Turn, replayed
from recollect_server.errors import (
    Aborted,
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    Reason,
)
from recollect_server.memory.model import Role
from recollect_server.memory.prompt import is_json_object
from recollect_server.memory.service import Memory
from recollect_server.scope import Scope

DRAIN_SECONDS = 5.0
"""How long a cancelled turn may take to store what was said."""


@dataclass(slots=True)
class _Line:
    """The turns of one session, which run one after the other."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    turns: int = 0


class Chat:
    """Runs turns. A turn is a task of its own, so that it outlives the stream that began it."""

    def __init__(self, memory: Memory, work: Collaborators) -> None:
        self._memory = memory
        self._work = work
        self._running: dict[tuple[Scope, str, str], RunningTurn] = {}
        self._lines: dict[tuple[Scope, str], _Line] = {}

    async def stream(self, asked: TurnRequest) -> AsyncGenerator[ChatEvent]:
        """Run a turn, or join or replay the one of a repeated request, and yield its events.

        Closing the iterator ends the turn if `cancel_on_disconnect` is set, else it goes on.

        Raises:
            InvalidArgument: the message is over the limit.
            NotFound: SESSION_NOT_FOUND.
            Aborted: TURN_IN_PROGRESS.
            FailedPrecondition: REQUEST_ID_REUSED.
            Unavailable, ResourceExhausted: the model or a store failed.
        """
        self._memory.check_messages([asked.message], "message")
        if asked.message.role not in (Role.USER, Role.TOOL):
            raise InvalidArgument("message.role", "must be ROLE_USER, or ROLE_TOOL for results")
        for position, tool in enumerate(asked.options.tools):
            if not is_json_object(tool.input_schema_json):
                raise InvalidArgument(
                    f"options.tools[{position}].input_schema_json", "must be a JSON object"
                )
        run = self._join_or_start(asked)
        followed = False
        try:
            async with aclosing(run.events()) as events:
                async for event in events:
                    yield event
            followed = True
        finally:
            if not followed and asked.options.cancel_on_disconnect and run.task is not None:
                run.task.cancel()

    async def run(self, asked: TurnRequest) -> Turn:
        """Run a turn to its end. Raises as `stream` does."""
        async with aclosing(self.stream(asked)) as events:
            async for event in events:
                if isinstance(event.happening, Done):
                    return event.happening.turn
        raise AssertionError("a turn ends in Done or raises")

    async def get_turn(self, scope: Scope, turn_id: str) -> Turn:
        """Return a turn as it is kept. Raises `NotFound` with TURN_NOT_FOUND."""
        return replayed(await self._work.turns.get_turn(scope, turn_id))

    async def drain(self, grace: float) -> None:
        """Wait `grace` seconds for the turns that are running, then cancel the rest."""
        tasks = [run.task for run in self._running.values() if run.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=DRAIN_SECONDS)

    def _join_or_start(self, asked: TurnRequest) -> RunningTurn:
        key = (asked.scope, asked.request.method, asked.request.request_id)
        running = self._running.get(key)
        if running is not None:
            if running.digest != asked.request.digest:
                raise FailedPrecondition(
                    Reason.REQUEST_ID_REUSED, "request_id: it belongs to another request"
                )
            return running
        session = (asked.scope, asked.session_id)
        line = self._lines.setdefault(session, _Line())
        if asked.options.abort_if_busy and line.turns:
            raise Aborted(Reason.TURN_IN_PROGRESS, "another turn of the session is running")
        run = RunningTurn(asked.request.digest)
        self._running[key] = run
        line.turns += 1
        run.task = asyncio.create_task(self._supervise(TurnJob(asked, self._work, run), line.lock))

        def ended(_: asyncio.Task[None]) -> None:
            del self._running[key]
            line.turns -= 1
            if not line.turns:
                del self._lines[session]

        run.task.add_done_callback(ended)
        return run

    async def _supervise(self, job: TurnJob, lock: asyncio.Lock) -> None:
        try:
            async with lock, asyncio.timeout(job.asked.options.timeout.total_seconds()):
                await job.execute()
        except TimeoutError:
            late = DeadlineExceeded(Reason.TURN_TIMED_OUT, "the turn took longer than turn_timeout")
            await self._close(job, TurnState.FAILED, late)
        except asyncio.CancelledError:
            cancelled = Cancelled(Reason.TURN_CANCELLED, "the turn was cancelled")
            await self._close(job, TurnState.CANCELLED, cancelled)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the turn's readers get it
            await self._close(job, TurnState.FAILED, error)
        else:
            job.run.end()

    async def _close(self, job: TurnJob, state: TurnState, error: BaseException) -> None:
        """Close a turn that failed, and tell its readers whatever comes of that."""
        try:
            await job.abandon(state)
        finally:
            job.run.end(error)

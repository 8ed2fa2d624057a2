"""Chat: starts turns, joins repeats of a running one, and lets any number of streams follow."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from dataclasses import replace

import structlog

from recollect_server.chat.job import TurnJob
from recollect_server.chat.model import TurnState
from recollect_server.chat.ports import Cancel
from recollect_server.chat.running import RunningTurn
from recollect_server.chat.turn import ChatDefaults, ChatEvent, Done, Interrupted, Turn, replayed
from recollect_server.chat.work import Collaborators, TurnRequest
from recollect_server.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Reason,
    RecollectError,
    Unavailable,
)
from recollect_server.memory.model import Role
from recollect_server.memory.prompt import is_json_object
from recollect_server.memory.service import Memory
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.chat")

CLOSE_SECONDS = 5.0
"""How long a stopped turn may take to store what was said."""


class Chat:
    """Runs turns. A turn is a task of its own, so that it outlives the stream that began it.

    Args:
        defaults: what turns start from, by tenant.
    """

    def __init__(
        self, memory: Memory, work: Collaborators, defaults: Mapping[str, ChatDefaults]
    ) -> None:
        self._memory = memory
        self._defaults = defaults
        self._work = work
        self._running: dict[tuple[Scope, str, str], RunningTurn] = {}

    def stream(self, asked: TurnRequest) -> AsyncGenerator[ChatEvent]:
        """Run a turn, or join or replay the one of a repeated request, and return its events.

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
        defaults = self._defaults.get(asked.scope.tenant)
        if defaults is not None:
            asked = replace(asked, options=defaults.under(asked.options))
        return self._join_or_start(asked).events(cancel=asked.options.cancel_on_disconnect)

    async def run(self, asked: TurnRequest) -> Turn:
        """Run a turn to its end: it is DONE, or INTERRUPTED. Raises as `stream` does."""
        async with aclosing(self.stream(asked)) as events:
            async for event in events:
                if isinstance(event.happening, Done | Interrupted):
                    return event.happening.turn
        raise AssertionError("a turn ends in Done or Interrupted, or raises")

    def resume(
        self, scope: Scope, turn_id: str, after: int, attempt: int
    ) -> AsyncGenerator[ChatEvent]:
        """Yield the events of a turn, wherever it runs; see `Following.events`."""
        return self._work.following.events(scope, turn_id, after, attempt)

    async def get_turn(self, scope: Scope, turn_id: str) -> Turn:
        """Return a turn as it is kept. Raises `NotFound` with TURN_NOT_FOUND."""
        return replayed(await self._work.turns.get_turn(scope, turn_id))

    async def cancel_turn(self, scope: Scope, turn_id: str) -> Turn:
        """End a running turn, wherever it runs, and return it; one that has ended as it is.

        A turn whose process does not answer is returned RUNNING, and ends with its lease.

        Raises:
            NotFound: TURN_NOT_FOUND.
        """
        view = await self._work.turns.request_cancel(scope, turn_id)
        if view.begun.turn.state is TurnState.RUNNING:
            run = self._work.keeper.find(scope, turn_id)
            if run is not None:
                run.stop(TurnState.CANCELLED)
            else:
                self._work.relay.send(view.process, Cancel(turn_id))
            with suppress(TimeoutError, RecollectError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    async with aclosing(self.resume(scope, turn_id, 0, 0)) as events:
                        async for _ in events:
                            pass
        return await self.get_turn(scope, turn_id)

    def forget_user(self, scope: Scope) -> int:
        """End the turns of a user that run in this process; return how many there were."""
        runs = [run for key, run in self._running.items() if key[0] == scope]
        for run in runs:
            run.stop(TurnState.CANCELLED)
        return len(runs)

    async def drain(self, grace: float) -> None:
        """Wait `grace` seconds for the turns that are running, then interrupt the rest."""
        tasks = [run.task for run in self._running.values() if run.task is not None]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace)
            for run in list(self._running.values()):
                run.stop(TurnState.INTERRUPTED)
            if late:
                await asyncio.wait(late, timeout=CLOSE_SECONDS)

    def _join_or_start(self, asked: TurnRequest) -> RunningTurn:
        key = (asked.scope, asked.request.method, asked.request.request_id)
        running = self._running.get(key)
        if running is not None and running.stopped is None:
            if running.digest != asked.request.digest:
                raise FailedPrecondition(
                    Reason.REQUEST_ID_REUSED, "request_id: it belongs to another request"
                )
            return running
        run = RunningTurn(asked.request.digest)
        self._running[key] = run
        run.task = asyncio.create_task(self._supervise(TurnJob(asked, self._work, run)))

        def ended(_: asyncio.Task[None]) -> None:
            if self._running.get(key) is run:
                del self._running[key]

        run.task.add_done_callback(ended)
        return run

    async def _supervise(self, job: TurnJob) -> None:
        try:
            await job.execute()
        except TimeoutError:
            late = DeadlineExceeded(Reason.TURN_TIMED_OUT, "the turn took longer than turn_timeout")
            await self._close(job, TurnState.FAILED, late)
        except asyncio.CancelledError:
            if job.run.stopped is TurnState.INTERRUPTED:
                left = Unavailable(
                    Reason.SHUTTING_DOWN, "the server leaves the turn; repeat the request", 0.1
                )
                await self._close(job, TurnState.INTERRUPTED, left)
            else:
                cancelled = Cancelled(Reason.TURN_CANCELLED, "the turn was cancelled")
                await self._close(job, TurnState.CANCELLED, cancelled)
            raise
        except Exception as error:
            # Its readers get it, and log what is unexpected; a turn may have none.
            if not isinstance(error, RecollectError) and not job.run.readers:
                log.exception("turn failed")
            await self._close(job, TurnState.FAILED, await self._explained(job, error))
        else:
            job.release()
            job.run.end()

    async def _close(self, job: TurnJob, state: TurnState, error: Exception | None) -> None:
        """Close a turn that failed, and tell its readers whatever comes of that."""
        try:
            await job.abandon(state, error if isinstance(error, RecollectError) else None)
        except NotFound as gone:
            error = gone
        finally:
            job.release()
            job.run.end(None if job.ended else error)

    async def _explained(self, job: TurnJob, error: Exception) -> Exception:
        """Say why a session that exists has no turns: it is an ephemeral one."""
        if isinstance(error, NotFound) and error.reason is Reason.SESSION_NOT_FOUND:
            with suppress(RecollectError):
                await self._memory.get_session(job.asked.scope, job.asked.session_id)
                return FailedPrecondition(
                    Reason.SESSION_EPHEMERAL,
                    "session_id: an ephemeral session has no turns; create one with retention "
                    "DURABLE to chat in",
                )
        return error

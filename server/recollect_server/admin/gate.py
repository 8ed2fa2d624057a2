"""Keeps calls about a user away while the user is erased, and ends those under way."""

import asyncio
from collections.abc import Callable, Collection
from types import TracebackType

from recollect_server.errors import RecollectError
from recollect_server.scope import Scope

Task = asyncio.Task[object]


class Gate:
    """One for a process.

    Args:
        refusal: returns the error of a call that is kept away.
    """

    def __init__(self, refusal: Callable[[], RecollectError]) -> None:
        self._refusal = refusal
        self._closed: frozenset[Scope] = frozenset()
        self._running: dict[Scope, set[Task]] = {}
        self._ended: set[Task] = set()

    def close_for(self, scopes: Collection[Scope]) -> None:
        """Keep calls about these users away, and no others."""
        self._closed = frozenset(scopes)
        for scope in self._closed:
            for task in self._running.get(scope, ()):
                if task not in self._ended:
                    self._ended.add(task)
                    task.cancel()

    def close_also_for(self, scope: Scope) -> None:
        """Keep calls about this user away, too."""
        self.close_for(self._closed | {scope})

    def open_for(self, scope: Scope) -> None:
        """Let calls about this user in again."""
        self._closed -= {scope}

    def passing(self, scope: Scope) -> "_Passing":
        """Return a context in which the running task works for a user.

        Entering and leaving it raise `RecollectError`: the refusal, also when the gate closes
        meanwhile.
        """
        return _Passing(self, scope)

    def _enter(self, scope: Scope) -> Task:
        if scope in self._closed:
            raise self._refusal()
        task = asyncio.current_task()
        assert task is not None, "calls run in tasks"
        self._running.setdefault(scope, set()).add(task)
        return task

    def _leave(self, scope: Scope, task: Task, error: type[BaseException] | None) -> None:
        tasks = self._running.get(scope, set())
        tasks.discard(task)
        if not tasks:
            self._running.pop(scope, None)
        if task in self._ended:
            self._ended.discard(task)
            if error is not None and issubclass(error, asyncio.CancelledError):
                task.uncancel()
                raise self._refusal() from None


class _Passing:
    """A task within the gate. Every call is one, so it is no generator."""

    __slots__ = ("_gate", "_scope", "_task")

    def __init__(self, gate: Gate, scope: Scope) -> None:
        self._gate = gate
        self._scope = scope

    def __enter__(self) -> None:
        self._task = self._gate._enter(self._scope)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._gate._leave(self._scope, self._task, kind)

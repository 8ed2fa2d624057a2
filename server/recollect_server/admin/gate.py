"""Keeps calls about a user away while the user is erased, and ends those under way."""

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from recollect_server.errors import RecollectError
from recollect_server.scope import Scope


class Gate:
    """One for a process.

    Args:
        refusal: returns the error of a call that is kept away.
    """

    def __init__(self, refusal: Callable[[], RecollectError]) -> None:
        self._refusal = refusal
        self._closed: frozenset[Scope] = frozenset()
        self._running: dict[Scope, set[asyncio.Task[object]]] = {}
        self._ended: set[asyncio.Task[object]] = set()

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

    @contextmanager
    def passing(self, scope: Scope) -> Iterator[None]:
        """Let the running task work for a user.

        Raises:
            RecollectError: the refusal, also when the gate closes meanwhile.
        """
        if scope in self._closed:
            raise self._refusal()
        task = asyncio.current_task()
        assert task is not None, "calls run in tasks"
        tasks = self._running.setdefault(scope, set())
        tasks.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if task in self._ended:
                task.uncancel()
                raise self._refusal() from None
            raise
        finally:
            self._ended.discard(task)
            tasks.discard(task)
            if not tasks and self._running.get(scope) is tasks:
                del self._running[scope]

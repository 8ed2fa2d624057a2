"""Waiting for a bounded time that an event loop which was held up does not use up."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")

SLICES = 8
"""Patience is spent in slices: an event loop that was held up is out of one of them only. What
begins within a slice may take up to one more."""


async def within(seconds: float, call: Awaitable[T]) -> T:
    """Wait for a call, in the caller's task: a task for each would cost as much as the call.

    Raises:
        TimeoutError: it took longer.
    """
    loop = asyncio.get_running_loop()
    spent = 0
    timer: asyncio.TimerHandle

    def next_slice() -> None:
        nonlocal spent, timer
        spent += 1
        if spent == SLICES:
            limit.reschedule(loop.time())
        else:
            timer = loop.call_later(seconds / SLICES, next_slice)

    limit = asyncio.timeout(None)
    timer = loop.call_later(seconds / SLICES, next_slice)
    try:
        async with limit:
            return await call
    finally:
        timer.cancel()

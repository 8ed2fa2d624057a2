"""The life of a process: it starts, says that it is ready, and drains when it is told to end."""

import asyncio
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from recollect_server.config import Settings
from recollect_server.server import Started, open_server
from recollect_server.worker import open_worker

log = structlog.get_logger("recollect.app")


async def serve(settings: Settings, on_ready: Callable[[Started], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Args:
        on_ready: called once the server reports SERVING.

    Raises:
        StartError: a part did not start.
    """
    ended = _until_signal()
    async with AsyncExitStack() as stack:
        started = await open_server(stack, settings)
        on_ready(started)
        await ended.wait()
        log.info("draining", grace_seconds=settings.grace_seconds)


async def work(settings: Settings, on_ready: Callable[[], None]) -> None:
    """Do the background work of a database until SIGTERM or SIGINT, apart from any server.

    Args:
        on_ready: called once the work is under way.

    Raises:
        StartError: a part did not start.
    """
    ended = _until_signal()
    async with AsyncExitStack() as stack:
        await open_worker(stack, settings)
        on_ready()
        await ended.wait()


def _until_signal() -> asyncio.Event:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    return ended

"""Upkeep of the store in the background: what is due because time passed."""

import asyncio
from typing import Protocol

import structlog

from recollect_server.errors import Unavailable

log = structlog.get_logger("recollect.upkeep")

INTERVAL_SECONDS = 5.0


class Upkeep(Protocol):
    """The store's upkeep. Raises `Unavailable` when the store is down."""

    async def run_upkeep(self) -> bool:
        """Do a bounded part of what is due; True if more may be."""


class UpkeepWorker:
    """Runs the upkeep until it is cancelled.

    Args:
        work_added: set after each part, as it may have queued jobs.
    """

    def __init__(self, upkeep: Upkeep, work_added: asyncio.Event) -> None:
        self._upkeep = upkeep
        self._work_added = work_added

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                while await self._upkeep.run_upkeep():
                    self._work_added.set()
            except Unavailable as error:
                log.warning("store unavailable, upkeep waits", reason=error.reason)
            await asyncio.sleep(INTERVAL_SECONDS)

"""The file of limits, read again when it changes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import structlog

from recollect_server.admin.limits import AllLimits
from recollect_server.files import Stamp, stamp

log = structlog.get_logger("recollect.quotas")

LOOK_SECONDS = 1.0
"""How often the file is looked at. One that changed since the last look may still be written."""


class LimitsFileError(Exception):
    """The file cannot be read, or holds something else than limits."""


class LimitsFile:
    """Limits of a file. One that is wrong, or gone, changes nothing."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: Stamp | None = None

    def read(self) -> AllLimits:
        """Return what the file holds now. Raises `LimitsFileError`."""
        try:
            self._stamp = stamp(self._path)
            return AllLimits.parse(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise LimitsFileError(f"{self._path}: {error}") from error

    async def watch(self, change: Callable[[AllLimits], None]) -> None:
        """Call `change` each time when the file holds others, until cancelled."""
        seen = self._stamp
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            found = await asyncio.to_thread(self._look)
            if found == seen and found != self._stamp:
                self._stamp = found
                await self._change(change)
            seen = found

    def _look(self) -> Stamp | None:
        try:
            return stamp(self._path)
        except OSError:
            return None

    async def _change(self, change: Callable[[AllLimits], None]) -> None:
        try:
            limits = await asyncio.to_thread(self.read)
        except LimitsFileError as error:
            log.error("the limits file is wrong: the old limits stay", error=str(error))
            return
        change(limits)
        log.info("the limits file was read again", tenants=len(limits.own))

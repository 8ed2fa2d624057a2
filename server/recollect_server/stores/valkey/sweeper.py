"""Removes from the registers what has ended, and registers that are empty."""

import asyncio

import structlog

from recollect_server.errors import Unavailable
from recollect_server.stores.valkey.connect import Client
from recollect_server.stores.valkey.keys import register_list_keys
from recollect_server.stores.valkey.register import SWEEP, keys_of

log = structlog.get_logger("recollect.valkey")

PAUSE_SECONDS = 5.0
"""Between two lists: all of them have their turn in about twenty minutes."""

AT_ONCE = 100


class RegisterSweeper:
    """Sweeps registers whose last entry has ended; many processes may do so at once."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def run(self) -> None:
        """Sweep one list after the other until cancelled; an outage is waited out."""
        while True:
            for key in register_list_keys():
                await asyncio.sleep(PAUSE_SECONDS)
                try:
                    await self.sweep(key)
                except Unavailable as error:
                    log.debug("registers not swept", reason=error.reason)

    async def sweep(self, key: str) -> int:
        """Sweep a list's registers that are due; return how many were."""
        seconds, microseconds = await self._client.command(key, "TIME")
        now = int(seconds) * 1000 + int(microseconds) // 1000
        due = await self._client.command(
            key, "ZRANGEBYSCORE", key, "-inf", now, "LIMIT", 0, AT_ONCE
        )
        for tag in due:
            ends = int(await self._client.run(SWEEP, keys_of(tag.decode()), []))
            if ends:
                await self._client.command(key, "ZADD", key, "GT", ends, tag)
            else:
                await self._client.command(key, "ZREM", key, tag)
        return len(due)

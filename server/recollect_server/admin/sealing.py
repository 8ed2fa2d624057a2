"""The job that seals audit events, exports the chains' heads, and removes what is too old."""

import asyncio
import json
import os
import secrets
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import structlog

from recollect_server.admin.audit_chain import (
    SALT_BYTES,
    ChainEvent,
    Seal,
    Signer,
    seal_events,
)
from recollect_server.errors import Unavailable
from recollect_server.ids import uuid7

log = structlog.get_logger("recollect.sealing")

INTERVAL_SECONDS = 5.0
"""How long an event waits for its seal, about."""
LEASE_SECONDS = 30.0
PRUNE_SECONDS = 3600.0
BATCH = 256
"""Events of a seal."""


class AuditChains(Protocol):
    """The chains in the store. Raises `Unavailable` when the store is down."""

    async def lease(self, holder: str, seconds: float) -> bool:
        """Become, or stay, the one who seals; False while another is."""

    async def tenants(self) -> tuple[str, ...]:
        """Return whose events wait for a seal."""

    async def unsealed(self, tenant: str, limit: int) -> tuple[Seal | None, tuple[ChainEvent, ...]]:
        """Return the chain's head and the events that wait, oldest first."""

    async def append(self, seal: Seal, events: tuple[ChainEvent, ...]) -> bool:
        """Write a seal and its events' hashes; False if the chain or an event changed before."""

    async def prunable(self, before: datetime) -> tuple[Seal, ...]:
        """Return each tenant's last seal from before a time that is no checkpoint yet."""

    async def begin_pruning(self, checkpoint: Seal) -> None:
        """Mark a seal as the checkpoint that its chain begins with, and record that as an event."""

    async def prune(self) -> bool:
        """Remove some of what lies before checkpoints; True if more may be there."""


class Sealing:
    """Seals until it is cancelled. One process of all does it at a time.

    Args:
        signer: makes, or returns, the key; called once there is something to sign.
        clock: returns the present as an aware UTC datetime.
        keep: how long events are kept; None for ever.
        heads: a file that every head is appended to, as JSON lines.
    """

    def __init__(
        self,
        chains: AuditChains,
        signer: Callable[[], Signer],
        clock: Callable[[], datetime],
        *,
        keep: timedelta | None = None,
        heads: Path | None = None,
    ) -> None:
        self._chains = chains
        self._make_signer = signer
        self._signer_: Signer | None = None
        self._clock = clock
        self._keep = keep
        self._heads = heads
        self._holder = uuid7()
        self._prune_at = 0.0

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            try:
                await self._work()
            except Unavailable as error:
                log.warning("store unavailable, sealing waits", reason=error.reason)
            except OSError as error:
                log.error("audit events are not sealed", error=type(error).__name__)
            await asyncio.sleep(INTERVAL_SECONDS)

    async def _work(self) -> None:
        """Seal and prune if something waits: the lease is a write, which idle servers spare."""
        prune = self._keep is not None and time.monotonic() >= self._prune_at
        if not prune and not await self._chains.tenants():
            return
        if not await self._chains.lease(self._holder, LEASE_SECONDS):
            return
        await self.seal()
        if prune:
            await self.prune()
            self._prune_at = time.monotonic() + PRUNE_SECONDS

    async def seal(self) -> None:
        """Seal what waits."""
        for tenant in await self._chains.tenants():
            while await self._seal_batch(tenant):
                if not await self._chains.lease(self._holder, LEASE_SECONDS):
                    return

    async def prune(self) -> None:
        """Remove events that were sealed longer ago than they are kept."""
        if self._keep is None:
            return
        signer = await self._signer()
        for seal in await self._chains.prunable(self._clock() - self._keep):
            await self._chains.begin_pruning(seal.pruned(signer, self._now()))
        while await self._chains.prune():
            pass

    async def _seal_batch(self, tenant: str) -> bool:
        """Make one seal; True if more events may wait."""
        head, events = await self._chains.unsealed(tenant, BATCH)
        if not events:
            return False
        signer = await self._signer()
        salts = [secrets.token_bytes(SALT_BYTES) for _ in events]
        seal, chained = seal_events(tenant, head, events, salts, signer, self._now())
        if not await self._chains.append(seal, chained):
            return True
        if self._heads is not None:
            await self._export(self._heads, seal)
        return len(events) == BATCH

    async def _export(self, heads: Path, seal: Seal) -> None:
        """Append the head. Where that fails the next one stands for it: all before hang on it."""
        line = f"{json.dumps(seal.to_json())}\n".encode()
        try:
            await asyncio.to_thread(append_to, heads, line)
        except OSError as error:
            log.error("the head of an audit chain is not exported", error=type(error).__name__)

    async def _signer(self) -> Signer:
        if self._signer_ is None:
            self._signer_ = await asyncio.to_thread(self._make_signer)
        return self._signer_

    def _now(self) -> int:
        return int(self._clock().timestamp() * 1_000_000)


def append_to(path: Path, data: bytes) -> None:
    """Append to a file and wait for the disk; it is made if absent. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Connections that are soon open again after a loss, and what a failed call means."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from tests.faults.history import Failed, Outcome, Refused, Unknown

from recollect import AsyncRecollect, errors
from recollect._async.memory import AsyncMemory
from recollect._async.transport import AsyncTransport
from recollect._settings import OPTIONS

PATIENCE_SECONDS = 60.0
"""How long a write is repeated, and a server waited for, before the load gives up."""

RETRY_SECONDS = 0.1
"""Pause before a call is repeated, as a store that is down is asked at once by everybody."""

UNKNOWN = (errors.Unavailable, errors.DeadlineExceeded, errors.Cancelled)
_RECONNECT = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


class _OneTry(AsyncTransport):
    """Raises a call's first failure; a watch still resumes, since what it repeats is not a call."""

    def _failure(self, error: grpc.aio.AioRpcError) -> errors.RecollectError:
        raise super()._failure(error) from None


def repeats(client: int) -> bool:
    """Whether a client of a load has the library's own repeats, which hide lost connections."""
    return client % 2 == 0


@asynccontextmanager
async def connected(
    address: str, *, repeats: bool = True
) -> AsyncIterator[tuple[AsyncRecollect, grpc.aio.Channel]]:
    """Yield a client with a connection of its own that is soon open again after a loss.

    Args:
        repeats: with the client's own repeats of calls that found no server.
    """
    async with grpc.aio.insecure_channel(address, [*OPTIONS, *_RECONNECT]) as channel:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await channel.channel_ready()
        async with AsyncRecollect(address, channel=channel) as client:
            if not repeats:
                client.memory = AsyncMemory(_OneTry(client._transport.settings, channel))
            yield client, channel


def outcome_of(error: errors.RecollectError) -> Outcome:
    """Return what a failed call tells of its effect."""
    if isinstance(error, errors.RevisionMismatch):
        return Refused(error.current_revision)
    return Unknown(str(error)) if isinstance(error, UNKNOWN) else Failed(str(error))

"""Calls to a library that talks to a store: in time, off the event loop, one kind of failure."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import structlog

from recollect_server.errors import Reason, Unavailable

T = TypeVar("T")

log = structlog.get_logger("recollect.remote")

THREADS = 4
CALL_SECONDS = 10.0
"""How long a call may take: well below the lease of a feed, so that a late write cannot meet the
next holder's."""

SEARCH_SECONDS = 5.0

_CODES = ("status_code", "code", "errno")
_CODE = re.compile("[A-Z][A-Z_]{0,31}")


def named(error: BaseException) -> dict[str, str]:
    """Return what a log may say of a client's failure: its class, and the server's code.

    Its text may quote the request, and so ids.
    """
    found = {"error": type(error).__name__}
    # chromadb and gRPC have a method, qdrant-client and httpx attributes, systems errno.
    sources = [error, getattr(error, "response", None)]
    for value in (getattr(source, name, None) for source in sources for name in _CODES):
        code = _call(value) if callable(value) else value
        code = getattr(code, "name", code)
        if isinstance(code, int) or (isinstance(code, str) and _CODE.fullmatch(code)):
            return found | {"code": str(code)}
    return found


def _call(method: Callable[[], Any]) -> Any:
    try:
        return method()
    except Exception:  # noqa: BLE001 - a method of another name than we think
        return None


class Calls:
    """Runs calls of one store's client.

    Args:
        store: named in logs.
        blocking: the client's methods block, so each call gets one of a few threads; otherwise
            they return awaitables.
        threads: how many calls of a blocking client run at once.
    """

    def __init__(
        self,
        store: str,
        *,
        blocking: bool,
        threads: int = THREADS,
    ) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=store) if blocking else None

    async def run(
        self,
        call: Callable[[], T | Awaitable[T]],
        seconds: float = CALL_SECONDS,
        *,
        expected: tuple[type[Exception], ...] = (),
    ) -> T:
        """Return what `call` returns.

        Args:
            expected: exceptions of the client that go through as they are.

        Raises:
            Unavailable: STORE_UNAVAILABLE, it failed or took too long.
        """
        try:
            async with asyncio.timeout(seconds):
                result: Any
                if self._threads is None:
                    result = await call()  # type: ignore[misc]  # not blocking, so awaitable
                else:
                    loop = asyncio.get_running_loop()
                    result = await loop.run_in_executor(self._threads, call)
                return result  # type: ignore[no-any-return]
        except expected:
            raise
        except Exception as error:  # noqa: BLE001 - clients' errors have no base in common
            log.warning("vector store failed", store=self._store, **named(error))
            raise Unavailable(
                Reason.STORE_UNAVAILABLE, f"{self._store} does not answer", retry_after=1.0
            ) from None

    def close(self) -> None:
        """Take no more calls; one that hangs is not waited for."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

"""The interceptor that logs calls."""

import asyncio
import logging
import time
from collections import Counter
from contextvars import Context
from typing import Any

import grpc
import structlog

from recollect_server.rpc.call import Call, Stream, Unary

log = structlog.get_logger("recollect.rpc")

PERIOD_SECONDS = 5.0
MOST_LINES = 20
"""Lines of a code in a period; of further calls only the number is told, when it ends."""


class CallLog:
    """One line a call: at debug level for success, at info level for failure.

    A flood of calls that fail is no flood of lines, but at debug level.
    """

    def __init__(self) -> None:
        self._failed: Counter[str] = Counter()
        self._tells_all = log.is_enabled_for(logging.DEBUG)

    def unary(self, inner: Unary) -> Unary:
        """See `Interceptor`."""
        tells_success = self._tells_all

        async def handler(call: Call, request: Any) -> Any:
            started = time.perf_counter()
            try:
                response = await inner(call, request)
            except BaseException as error:
                self._log_failure(call, error, started)
                raise
            if tells_success:
                _log_success(started)
            return response

        return handler

    def stream(self, inner: Stream) -> Stream:
        """See `Interceptor`."""
        return self.unary(inner)

    def _log_failure(self, call: Call, error: BaseException, started: float) -> None:
        if isinstance(error, grpc.aio.AbortError):
            code = call.context.code().name
        elif isinstance(error, asyncio.CancelledError | GeneratorExit | grpc.aio.BaseError):
            code = "CANCELLED"
        else:
            return
        if self._has_line(code):
            log.info("call", code=code, milliseconds=_milliseconds(started))

    def _has_line(self, code: str) -> bool:
        if self._tells_all:
            return True
        if not self._failed:
            # In a context of its own: the line is of no call.
            loop = asyncio.get_running_loop()
            loop.call_later(PERIOD_SECONDS, self._tell, context=Context())
        self._failed[code] += 1
        return self._failed[code] <= MOST_LINES

    def _tell(self) -> None:
        failed, self._failed = self._failed, Counter()
        for code, count in failed.items():
            if count > MOST_LINES:
                log.info("more calls", code=code, count=count - MOST_LINES, seconds=PERIOD_SECONDS)


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 2)


def _log_success(started: float) -> None:
    log.debug("call", code="OK", milliseconds=_milliseconds(started))

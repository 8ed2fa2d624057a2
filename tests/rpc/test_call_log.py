"""How many lines calls have in the log."""

import asyncio
import logging
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace

import grpc
import pytest
import structlog
from structlog.testing import capture_logs

from recollect_server.rpc import call_log
from recollect_server.rpc.call import Call
from recollect_server.rpc.call_log import MOST_LINES, CallLog

FLOOD = 10 * MOST_LINES


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(call_log, "PERIOD_SECONDS", 0.2)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    yield
    structlog.reset_defaults()


def _call(code: grpc.StatusCode) -> Call:
    return Call("/read", SimpleNamespace(code=lambda: code))


async def _refuse(calls: CallLog, code: grpc.StatusCode, *, stream: bool = False) -> None:
    async def refused(call, request):
        raise grpc.aio.AbortError

    with suppress(grpc.aio.AbortError):
        handler = calls.stream(refused) if stream else calls.unary(refused)
        await handler(_call(code), None)


async def _told(lines: list) -> dict[str, int]:
    """Return the numbers of calls that were told at the period's end, by code."""
    async with asyncio.timeout(30):
        while not any(line["event"] == "more calls" for line in lines):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return {line["code"]: line["count"] for line in lines if line["event"] == "more calls"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_flood_of_refused_calls_is_some_lines_and_a_number(stream):
    calls = CallLog()
    with capture_logs() as lines:
        for _ in range(FLOOD):
            await _refuse(calls, grpc.StatusCode.UNAUTHENTICATED, stream=stream)
        await _refuse(calls, grpc.StatusCode.NOT_FOUND, stream=stream)
        seen = Counter(line["code"] for line in lines)
        assert seen == {"UNAUTHENTICATED": MOST_LINES, "NOT_FOUND": 1}
        assert await _told(lines) == {"UNAUTHENTICATED": FLOOD - MOST_LINES}
        lines.clear()
        # A new period.
        await _refuse(calls, grpc.StatusCode.UNAUTHENTICATED, stream=stream)
        (line,) = lines
        assert (line["event"], line["code"]) == ("call", "UNAUTHENTICATED")


async def test_calls_that_are_given_up_are_bounded_too():
    async def cancelled(call, request):
        raise asyncio.CancelledError

    calls = CallLog()
    with capture_logs() as lines:
        for _ in range(FLOOD):
            with pytest.raises(asyncio.CancelledError):
                await calls.unary(cancelled)(_call(grpc.StatusCode.OK), None)
        assert len(lines) == MOST_LINES
        assert await _told(lines) == {"CANCELLED": FLOOD - MOST_LINES}

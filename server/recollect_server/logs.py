"""Logging: structlog to standard error, with the running call's ids and no message text.

docs/observability.md lists what a line may hold.
"""

import hashlib
import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog

from recollect_server.rpc.call import current_call


def _add_call(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    call = current_call.get()
    if call is not None:
        event["call_id"] = call.call_id
        event["method"] = call.method
        event["tenant"] = tenant_digest(call.principal.tenant)
        if call.trace_id:
            event["trace_id"] = call.trace_id
    return event


def tenant_digest(tenant: str) -> str:
    """Return what stands for a tenant in logs: 12 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(tenant.encode()).hexdigest()[:12]


def _add_process(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    event["pid"] = os.getpid()
    return event


def _add_error(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Tell where an exception was raised and of which type; its own text may quote a caller's."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if not isinstance(error, BaseException):
        return event
    parts = []
    while error is not None:
        frames = "".join(traceback.format_tb(error.__traceback__))
        parts.append(f"{frames}{type(error).__module__}.{type(error).__qualname__}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    event["exception"] = "\nraised after\n".join(parts)
    return event


def configure(level: str, format: str) -> None:
    """Set logging up for the process.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        format: `console` for people, `json` for machines.
    """
    rendering: list[Any] = (
        [_add_process, structlog.processors.JSONRenderer()]
        if format == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_call,
            _add_error,
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )

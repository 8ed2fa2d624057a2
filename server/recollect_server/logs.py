"""Logging: structlog to standard error, with the running call's ids and no message text."""

import logging
import sys
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
        event["tenant"] = call.principal.tenant
    return event


def configure(level: str, format: str) -> None:
    """Set logging up for the process.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        format: `console` for people, `json` for machines.
    """
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_call,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )

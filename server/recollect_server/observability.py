"""Opens what makes a process visible: its counts, the address of its metrics, its traces."""

import asyncio
from contextlib import AsyncExitStack
from importlib.metadata import version

from recollect_server.config import Settings
from recollect_server.metrics import Sources, publish
from recollect_server.parts import StartError
from recollect_server.telemetry import Telemetry


async def open_telemetry(stack: AsyncExitStack, settings: Settings) -> Telemetry:
    """Return where a process counts; it watches nothing unless metrics or traces are wanted.

    Raises:
        StartError: traces are wanted, and the extra is not installed.
    """
    if not settings.traces_endpoint:
        return Telemetry(active=bool(settings.metrics_listen))
    try:
        # It is an extra.
        from recollect_server.tracing import open_tracer
    except ModuleNotFoundError as error:
        raise StartError(
            "traces need the extra `otel`: pip install 'recollect-server[otel]'"
        ) from error
    tracer, end = open_tracer(
        settings.traces_endpoint, settings.traces_sample, version("recollect-server")
    )
    stack.push_async_callback(asyncio.to_thread, end)
    return Telemetry(active=True, tracer=tracer)


def publish_metrics(stack: AsyncExitStack, settings: Settings, sources: Sources) -> None:
    """Serve a process's metrics, if that is wanted.

    Raises:
        StartError: the address cannot be served.
    """
    if not settings.metrics_listen:
        return
    try:
        end = publish(settings.metrics_listen, sources)
    except OSError as error:
        raise StartError(
            f"cannot serve metrics on {settings.metrics_listen}: {error.strerror or error}"
        ) from error
    # Its threads ask the event loop, which must not wait for them meanwhile.
    stack.push_async_callback(asyncio.to_thread, end)

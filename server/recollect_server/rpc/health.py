"""Health, and an address that serves nothing else, in plain text, for probes of orchestrators."""

from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from recollect_server.rpc.registry import decoder

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

ALIVE = "alive"
"""A name of the health service that is SERVING until the process ends, while draining too."""


def health_handler(servicer: health.aio.HealthServicer) -> grpc.GenericRpcHandler:
    """Return gRPC's handler for the health service; the library's own leaks exceptions' text."""

    async def check(request: Any, context: Any) -> Any:
        await _refuse_undecodable(request, context)
        return await servicer.Check(request, context)

    async def watch(request: Any, context: Any) -> None:
        await _refuse_undecodable(request, context)
        await servicer.Watch(request, context)

    codec: dict[str, Any] = {
        "request_deserializer": decoder(health_pb2.HealthCheckRequest),
        "response_serializer": health_pb2.HealthCheckResponse.SerializeToString,
    }
    return grpc.method_handlers_generic_handler(
        HEALTH_SERVICE,
        {
            "Check": grpc.unary_unary_rpc_method_handler(check, **codec),
            "Watch": grpc.unary_stream_rpc_method_handler(watch, **codec),
        },
    )


async def _refuse_undecodable(request: Any, context: Any) -> None:
    if not isinstance(request, health_pb2.HealthCheckRequest):
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not a HealthCheckRequest")


class HealthEndpoint:
    """Serves a health servicer; raises `RuntimeError` if the address is taken.

    Args:
        listen: HOST:PORT; port 0 picks a free one.
        servicer: whose answers it gives.
    """

    def __init__(self, listen: str, servicer: health.aio.HealthServicer) -> None:
        self._servicer = servicer
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((health_handler(servicer),))
        self.port = self._server.add_insecure_port(listen)

    async def start(self) -> None:
        """Serve, and report that the process is alive."""
        await self._server.start()
        await self._servicer.set(ALIVE, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Serve no longer."""
        await self._server.stop(None)

"""An address that serves nothing but health, in plain text, for probes of orchestrators."""

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

ALIVE = "alive"
"""A name of the health service that is SERVING until the process ends, while draining too."""


class HealthEndpoint:
    """Serves a health servicer; raises `RuntimeError` if the address is taken.

    Args:
        listen: HOST:PORT; port 0 picks a free one.
        servicer: whose answers it gives.
    """

    def __init__(self, listen: str, servicer: health.aio.HealthServicer) -> None:
        self._servicer = servicer
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        self.port = self._server.add_insecure_port(listen)

    async def start(self) -> None:
        """Serve, and report that the process is alive."""
        await self._server.start()
        await self._servicer.set(ALIVE, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Serve no longer."""
        await self._server.stop(None)

"""The gRPC server: services, health, reflection, limits and draining."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

from recollect_server.admin.gate import Gate
from recollect_server.admin.quotas import Quotas
from recollect_server.rpc.auditing import Audited, AuditedRefusals, Auditing
from recollect_server.rpc.authentication import Authentication, Authenticator
from recollect_server.rpc.counting import CallCounts
from recollect_server.rpc.health import HEALTH_SERVICE, HealthEndpoint, health_handler
from recollect_server.rpc.interceptors import interceptors
from recollect_server.rpc.limiting import Limiting
from recollect_server.rpc.reflection import Reflection
from recollect_server.rpc.registry import Servicer, generic_handler, rules


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Limits of the server.

    Attributes:
        max_request_bytes: larger requests get RESOURCE_EXHAUSTED from gRPC itself.
        default_deadline: seconds a unary call may take without a deadline of its own.
        max_connection_age: seconds after which a connection is asked to reconnect, so that
            connections spread over servers; 0 means never.
        share_port: let other processes listen on the same port.
        credentials: TLS, or None for plain text.
    """

    max_request_bytes: int
    default_deadline: float = 300.0
    max_connection_age: float = 0.0
    share_port: bool = False
    credentials: grpc.ServerCredentials | None = None


class RpcServer:
    """Serves the contract on one address.

    Args:
        listen: HOST:PORT, or unix:PATH; port 0 picks a free one.
        authenticator: None switches authentication off.
        quotas: limits calls of tenants and users; None for no limits.
        gate: keeps calls about users away who are being erased.
        counts: where calls are counted, None for nowhere.
        auditing: what is recorded of calls, None for nothing.
        health_listen: a further address, in plain text, that serves nothing but health; "" for
            none. Probes of orchestrators speak neither TLS nor keys.
    """

    def __init__(
        self,
        servicers: Iterable[Servicer],
        *,
        listen: str,
        health_listen: str = "",
        options: ServerOptions,
        authenticator: Authenticator | None,
        quotas: Quotas | None = None,
        gate: Gate | None = None,
        counts: CallCounts | None = None,
        auditing: Audited | None = None,
    ) -> None:
        servicers = tuple(servicers)
        chain = interceptors(
            authentication=Authentication(
                authenticator, rules(servicer.service for servicer in servicers)
            ),
            default_deadline=options.default_deadline,
            limiting=Limiting(quotas) if quotas is not None else None,
            gate=gate,
            counts=counts,
            refusals=AuditedRefusals(*auditing) if auditing else None,
            auditing=Auditing(*auditing) if auditing else None,
        )
        self._services = tuple(servicer.service.full_name for servicer in servicers)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(options=_channel_arguments(options))
        self._server.add_generic_rpc_handlers(
            (
                *(generic_handler(servicer, chain) for servicer in servicers),
                *Reflection([*self._services, HEALTH_SERVICE]).handlers(),
                health_handler(self._health),
            )
        )
        self.port = (
            self._server.add_secure_port(listen, options.credentials)
            if options.credentials is not None
            else self._server.add_insecure_port(listen)
        )
        self._endpoint = HealthEndpoint(health_listen, self._health) if health_listen else None

    async def start(self) -> None:
        """Serve, and report SERVING for the server and each service."""
        await self._server.start()
        if self._endpoint is not None:
            await self._endpoint.start()
        for name in ("", *self._services):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def drain(self, grace: float) -> None:
        """Report NOT_SERVING, take no new calls, and give running ones `grace` seconds."""
        for name in ("", *self._services):
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.stop(grace)
        if self._endpoint is not None:
            await self._endpoint.stop()


def _channel_arguments(options: ServerOptions) -> list[tuple[str, Any]]:
    arguments: list[tuple[str, Any]] = [
        ("grpc.max_receive_message_length", options.max_request_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", int(options.share_port)),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.max_ping_strikes", 4),
    ]
    if options.max_connection_age:
        arguments.append(("grpc.max_connection_age_ms", int(options.max_connection_age * 1000)))
    return arguments

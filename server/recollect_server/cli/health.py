"""`recollect health`."""

import sys
from dataclasses import replace

import click
import grpc
from grpc_health.v1 import health_pb2

from recollect._settings import Settings
from recollect_server.cli.client import Server, server_options

CHECK = "/grpc.health.v1.Health/Check"


@click.command()
@click.option("--service", default="", help="Full name of one service. Default: the server.")
@click.option("--timeout", default=2.0, show_default=True, help="Seconds.")
@server_options
def health(service: str, timeout: float, server: Server) -> None:
    """Ask whether a server or worker serves; exit with 1 if it does not. No key is needed."""
    # None is sent, so that one in the environment is not refused for plain text.
    settings = replace(server, api_key=None).settings()
    with _channel(settings) as channel:
        check = channel.unary_unary(
            CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            response = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as error:
            click.echo(f"recollect: {server.target}: {error.code().name}", err=True)
            sys.exit(1)
    click.echo(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(1)


def _channel(settings: Settings) -> grpc.Channel:
    if settings.credentials is None:
        return grpc.insecure_channel(settings.address)
    return grpc.secure_channel(settings.address, settings.credentials)

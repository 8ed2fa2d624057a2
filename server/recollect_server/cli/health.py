"""`recollect health`."""

import sys

import click
import grpc
from grpc_health.v1 import health_pb2

from recollect_server.cli.serve import DEFAULT_TARGET

CHECK = "/grpc.health.v1.Health/Check"


@click.command()
@click.option("--target", default=DEFAULT_TARGET, show_default=True, metavar="HOST:PORT")
@click.option("--service", default="", help="Full name of one service. Default: the server.")
@click.option("--timeout", default=2.0, show_default=True, help="Seconds.")
def health(target: str, service: str, timeout: float) -> None:
    """Ask over plain text whether a server serves; exit with 1 if it does not."""
    with grpc.insecure_channel(target) as channel:
        check = channel.unary_unary(
            CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            response = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout)
        except grpc.RpcError as error:
            click.echo(f"recollect: {target}: {error.code().name}", err=True)
            sys.exit(1)
    click.echo(health_pb2.HealthCheckResponse.ServingStatus.Name(response.status))
    if response.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(1)

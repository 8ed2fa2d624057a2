"""What the commands that talk to a server share."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from recollect import Recollect, errors

DEFAULT_TARGET = "127.0.0.1:50051"

_pem = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Server:
    """A server, as the options name it.

    Attributes:
        tls_ca: PEM of the authorities to trust, None for the system's.
        tls_cert: PEM of this caller's certificate chain, with its key in `tls_key`.
        insecure: send a key in plain text also to another machine.
    """

    target: str
    api_key: str | None
    tls: bool
    tls_ca: Path | None
    tls_cert: Path | None
    tls_key: Path | None
    insecure: bool

    @property
    def encrypted(self) -> bool:
        """Whether it is called by TLS."""
        return self.tls or bool(self.tls_ca or self.tls_cert)

    def client(self, user: str | None) -> Recollect:
        """Return a client of it. Raises `click.UsageError`."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise click.UsageError("--tls-cert and --tls-key go together")
        certificate = None
        if self.tls_cert is not None and self.tls_key is not None:
            certificate = self.tls_cert.read_bytes(), self.tls_key.read_bytes()
        try:
            return Recollect(
                self.target,
                api_key=self.api_key,
                tls=self.encrypted,
                root_certificates=self.tls_ca.read_bytes() if self.tls_ca else None,
                client_certificate=certificate,
                insecure=self.insecure,
                user_id=user,
            )
        except ValueError as error:
            raise click.UsageError(
                "the API key would cross the network in plain text: give --tls or --tls-ca, or "
                "--insecure if the network is trusted"
            ) from error


def target_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a server and a user; the command gets them as `server` and `user`."""

    @functools.wraps(command)
    def with_server(
        *,
        target: str,
        api_key: str | None,
        tls: bool,
        tls_ca: Path | None,
        tls_cert: Path | None,
        tls_key: Path | None,
        insecure: bool,
        **others: Any,
    ) -> None:
        server = Server(target, api_key, tls, tls_ca, tls_cert, tls_key, insecure)
        command(server=server, **others)

    for option in (
        click.option("--user", default="me", show_default=True, help="Whose memory."),
        click.option("--insecure", is_flag=True, help="Send the key in plain text."),
        click.option("--tls-key", type=_pem, help="PEM key of --tls-cert."),
        click.option("--tls-cert", type=_pem, help="PEM chain that says who calls."),
        click.option("--tls-ca", type=_pem, help="PEM authorities of the server's certificate."),
        click.option(
            "--tls",
            is_flag=True,
            envvar="RECOLLECT_TLS",
            show_envvar=True,
            help="Encrypt; the server's certificate is of an authority that the system trusts.",
        ),
        click.option(
            "--api-key",
            envvar="RECOLLECT_API_KEY",
            show_envvar=True,
            help="Needed if the server asks for one.",
        ),
        click.option(
            "--target",
            envvar="RECOLLECT_ADDRESS",
            show_envvar=True,
            default=DEFAULT_TARGET,
            show_default=True,
            metavar="HOST:PORT",
        ),
    ):
        with_server = option(with_server)
    return with_server


@contextmanager
def connect(server: Server, user: str | None = None) -> Iterator[Recollect]:
    """Give a client; a failed call ends the command with one line and exit code 1."""
    try:
        with server.client(user) as client:
            yield client
    except errors.Unavailable as error:
        click.echo(
            f"recollect: no server at {server.target} ({error.message}). Start one: recollect serve"
            + ("" if server.encrypted else ". One that serves TLS needs --tls or --tls-ca"),
            err=True,
        )
        sys.exit(1)
    except errors.RecollectError as error:
        click.echo(f"recollect: {error.message}", err=True)
        sys.exit(1)

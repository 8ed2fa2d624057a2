"""What the commands that talk to a server share."""

import functools
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from recollect import AsyncRecollect, Recollect, errors
from recollect._settings import DEFAULT_ADDRESS, DEFAULT_TIMEOUT, Settings
from recollect_server.cli.options import Command, Option, options

_pem = click.Path(path_type=Path, exists=True, dir_okay=False)


@dataclass(frozen=True, slots=True)
class Server:
    """A server, as the options name it.

    Attributes:
        target: HOST:PORT, or unix:PATH.
        tls_ca: PEM of the authorities to trust, None for the system's.
        tls_cert: PEM of this caller's certificate chain, with its key in `tls_key`.
        insecure: send a key in plain text also to another machine.
    """

    target: str
    api_key: str | None = None
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False

    @property
    def encrypted(self) -> bool:
        """Whether it is called by TLS."""
        return self.tls or bool(self.tls_ca or self.tls_cert)

    def settings(self, user: str | None = None) -> Settings:
        """Return what a client of it is made with. Raises `click.UsageError`."""
        if (self.tls_cert is None) != (self.tls_key is None):
            raise click.UsageError("--tls-cert and --tls-key go together")
        certificate = None
        if self.tls_cert is not None and self.tls_key is not None:
            certificate = self.tls_cert.read_bytes(), self.tls_key.read_bytes()
        try:
            return Settings(
                address=self.target,
                api_key=self.api_key,
                tls=self.encrypted,
                root_certificates=self.tls_ca.read_bytes() if self.tls_ca else None,
                client_certificate=certificate,
                insecure=self.insecure,
                timeout=DEFAULT_TIMEOUT,
                user_id=user,
            )
        except ValueError as error:
            raise click.UsageError(
                "the API key would cross the network in plain text: give --tls or --tls-ca, or "
                "--insecure if the network is trusted"
            ) from error

    def client(self, user: str | None = None) -> Recollect:
        """Return a client of it. Raises `click.UsageError`."""
        return Recollect(**asdict(self.settings(user)))

    def async_client(self) -> AsyncRecollect:
        """Return a client of it for asyncio. Raises `click.UsageError`."""
        return AsyncRecollect(**asdict(self.settings()))


_target = click.option(
    "--target",
    envvar="RECOLLECT_ADDRESS",
    show_envvar=True,
    default=DEFAULT_ADDRESS,
    show_default=True,
    metavar="HOST:PORT",
)

_connection_options = options(
    click.option(
        "--api-key",
        envvar="RECOLLECT_API_KEY",
        show_envvar=True,
        help="A key or a token, if the server asks for one.",
    ),
    click.option(
        "--tls",
        is_flag=True,
        envvar="RECOLLECT_TLS",
        show_envvar=True,
        help="Encrypt; the server's certificate is of an authority that the system trusts.",
    ),
    click.option("--tls-ca", type=_pem, help="PEM authorities of the server's certificate."),
    click.option("--tls-cert", type=_pem, help="PEM chain that says who calls."),
    click.option("--tls-key", type=_pem, help="PEM key of --tls-cert."),
    click.option("--insecure", is_flag=True, help="Send the key in plain text."),
)


def server_options(command: Command, *, target: Option = _target) -> Command:
    """Add the options of a server; the command gets them as `server`."""

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

    decorated: Command = target(_connection_options(with_server))
    return decorated


def target_options(command: Command) -> Command:
    """Add the options of a server and a user; the command gets them as `server` and `user`."""
    whose = click.option(
        "--user",
        envvar="RECOLLECT_USER_ID",
        show_envvar=True,
        default="me",
        show_default=True,
        help="Whose memory.",
    )
    return server_options(whose(command))


@contextmanager
def connect(server: Server, user: str | None = None) -> Iterator[Recollect]:
    """Give a client; a failed call ends the command with one line and exit code 1."""
    try:
        with server.client(user) as client:
            yield client
    except errors.Unavailable as error:
        if error.reason:  # a server says so of a part of it
            click.echo(f"recollect: {error.message}", err=True)
            sys.exit(1)
        click.echo(
            f"recollect: no server at {server.target} ({error.message}). Start one: recollect serve"
            + ("" if server.encrypted else ". One that serves TLS needs --tls or --tls-ca"),
            err=True,
        )
        sys.exit(1)
    except errors.RecollectError as error:
        click.echo(f"recollect: {error.message}", err=True)
        sys.exit(1)

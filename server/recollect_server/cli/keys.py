"""`recollect keys`: on a running server, or on its data directory before there is a key."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import click

from recollect_server import config
from recollect_server.admin.keys import ApiKeys
from recollect_server.admin.model import ApiKey, Grants
from recollect_server.app import open_keys
from recollect_server.errors import RecollectError

T = TypeVar("T")

_data_dir = click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    help="The server's data directory. Default ./recollect-data.",
)
_tenant = click.option("--tenant", default="default", show_default=True)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys in a server's database, also while it runs."""


def _run(data_dir: Path | None, work: Callable[[ApiKeys], Awaitable[T]]) -> T:
    async def body() -> T:
        async with open_keys(config.load(data_dir=data_dir)) as api_keys:
            try:
                return await work(api_keys)
            except RecollectError as error:
                raise click.ClickException(error.message) from error

    return asyncio.run(body())


@keys.command()
@click.option("--name", required=True, help="A name for people.")
@click.option(
    "--role",
    "roles",
    required=True,
    multiple=True,
    metavar="[SERVICE=]ROLE",
    help="reader, writer or admin; on memory, cache, chat or admin alone, as in cache=writer.",
)
@click.option("--user", default="", help="The only user it may name. Default: any user.")
@click.option("--expires", type=click.DateTime(), help="UTC time from which it is refused.")
@_tenant
@_data_dir
def create(
    name: str,
    roles: tuple[str, ...],
    user: str,
    expires: datetime | None,
    tenant: str,
    data_dir: Path | None,
) -> None:
    """Make a key and print its token, once."""
    try:
        grants = Grants.parse(" ".join(roles))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--role") from error
    created = _run(
        data_dir,
        lambda api_keys: api_keys.create(
            tenant,
            name=name,
            user_id=user,
            grants=grants,
            expire_time=expires.replace(tzinfo=UTC) if expires else None,
        ),
    )
    click.echo(created.token)


@keys.command()
@click.argument("key_id")
@click.option(
    "--overlap-hours",
    type=click.FloatRange(min=0),
    default=24.0,
    show_default=True,
    help="How long the old key is still accepted.",
)
@click.option("--expires", type=click.DateTime(), help="UTC time from which the new is refused.")
@_tenant
@_data_dir
def rotate(
    key_id: str, overlap_hours: float, expires: datetime | None, tenant: str, data_dir: Path | None
) -> None:
    """Make a key that replaces another, and print its token, once."""
    created = _run(
        data_dir,
        lambda api_keys: api_keys.rotate(
            tenant,
            key_id,
            expire_time=expires.replace(tzinfo=UTC) if expires else None,
            overlap=timedelta(hours=overlap_hours),
        ),
    )
    click.echo(created.token)


@keys.command(name="list")
@_tenant
@_data_dir
def list_(tenant: str, data_dir: Path | None) -> None:
    """List a tenant's keys, newest first."""
    for key in _run(data_dir, lambda k: k.list(tenant, limit=1000, after=None)):
        used = f"{key.last_use_time:%Y-%m-%d %H:%M}" if key.last_use_time else "never used"
        click.echo(f"{key.key_id}  {key.grants!s:7} {_state(key):8} {used:16} {key.name}")


@keys.command()
@click.argument("key_id")
@_tenant
@_data_dir
def revoke(key_id: str, tenant: str, data_dir: Path | None) -> None:
    """Revoke a key; a running server refuses it within five seconds."""
    key = _run(data_dir, lambda api_keys: api_keys.revoke(tenant, key_id))
    click.echo(f"{key.key_id}  revoked")


def _state(key: ApiKey) -> str:
    if key.revoke_time is not None:
        return "revoked"
    expired = key.expire_time is not None and key.expire_time <= datetime.now(UTC)
    return "expired" if expired else "active"

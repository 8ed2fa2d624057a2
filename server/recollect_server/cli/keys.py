"""`recollect keys`: on a running server, or on its data directory before there is a key."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import click

from recollect_server import config
from recollect_server.admin.keys import ApiKeys
from recollect_server.admin.model import ApiKey, KeyRole
from recollect_server.app import open_keys

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
            return await work(api_keys)

    return asyncio.run(body())


@keys.command()
@click.option("--name", required=True, help="A name for people.")
@click.option("--role", type=click.Choice(["reader", "writer", "admin"]), required=True)
@click.option("--user", default="", help="The only user it may name. Default: any user.")
@click.option("--expires", type=click.DateTime(), help="UTC time from which it is refused.")
@_tenant
@_data_dir
def create(
    name: str, role: str, user: str, expires: datetime | None, tenant: str, data_dir: Path | None
) -> None:
    """Make a key and print its token, once."""
    if role == "admin" and user:
        raise click.UsageError("an admin key is for no single user")
    created = _run(
        data_dir,
        lambda api_keys: api_keys.create(
            tenant,
            name=name,
            user_id=user,
            role=KeyRole[role.upper()],
            expire_time=expires.replace(tzinfo=UTC) if expires else None,
        ),
    )
    click.echo(created.token)


@keys.command(name="list")
@_tenant
@_data_dir
def list_(tenant: str, data_dir: Path | None) -> None:
    """List a tenant's keys, newest first."""
    for key in _run(data_dir, lambda k: k.list(tenant, limit=1000, after=None)):
        click.echo(f"{key.key_id}  {key.role.name.lower():7} {_state(key):8} {key.name}")


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

"""`recollect keys`: in a server's database, so that the first one can be made, too."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click

from recollect_server.admin.keys import ApiKeys
from recollect_server.admin.model import ApiKey, Grants
from recollect_server.cli.database import database_options, on_database
from recollect_server.cli.run import load_settings
from recollect_server.parts import utc_now
from recollect_server.stores.sql.keys import SqlApiKeyStore

T = TypeVar("T")

_tenant = click.option("--tenant", default="default", show_default=True)


@click.group()
def keys() -> None:
    """Make, list and revoke API keys in a server's database, also while it runs."""


def _run(
    flags: dict[str, Any],
    work: Callable[[ApiKeys], Awaitable[T]],
    *,
    may_make: bool = False,
) -> T:
    settings = load_settings(flags.pop("config_file"), **flags)
    return on_database(
        settings,
        lambda database: work(ApiKeys(SqlApiKeyStore(database, utc_now), utc_now)),
        may_make=may_make,
    )


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
@database_options
def create(
    name: str,
    roles: tuple[str, ...],
    user: str,
    expires: datetime | None,
    tenant: str,
    **flags: Any,
) -> None:
    """Make a key and print its token, once."""
    try:
        grants = Grants.parse(" ".join(roles))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--role") from error
    created = _run(
        flags,
        lambda api_keys: api_keys.create(
            tenant,
            name=name,
            user_id=user,
            grants=grants,
            expire_time=expires.replace(tzinfo=UTC) if expires else None,
        ),
        may_make=True,
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
@database_options
def rotate(
    key_id: str, overlap_hours: float, expires: datetime | None, tenant: str, **flags: Any
) -> None:
    """Make a key that replaces another, and print its token, once."""
    created = _run(
        flags,
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
@database_options
def list_(tenant: str, **flags: Any) -> None:
    """List a tenant's keys, newest first."""
    for key in _run(flags, lambda k: k.list(tenant, limit=1000, after=None)):
        used = f"{key.last_use_time:%Y-%m-%d %H:%M}" if key.last_use_time else "never used"
        click.echo(f"{key.key_id}  {key.grants!s:7} {_state(key):8} {used:16} {key.name}")


@keys.command()
@click.argument("key_id")
@_tenant
@database_options
def revoke(key_id: str, tenant: str, **flags: Any) -> None:
    """Revoke a key; a running server refuses it within five seconds."""
    key = _run(flags, lambda api_keys: api_keys.revoke(tenant, key_id))
    click.echo(f"{key.key_id}  revoked")


def _state(key: ApiKey) -> str:
    if key.revoke_time is not None:
        return "revoked"
    expired = key.expire_time is not None and key.expire_time <= datetime.now(UTC)
    return "expired" if expired else "active"

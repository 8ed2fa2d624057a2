"""`recollect audit`: on a server's database, also while it runs."""

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from recollect_server import config
from recollect_server.admin.audit_chain import ChainEvent, Seal
from recollect_server.cli.database import database_options, on_database
from recollect_server.cli.run import fail, load_settings
from recollect_server.parts import StartError, open_audit_key, utc_now
from recollect_server.stores.audit_key import FILE, AuditKeyError, PublicKeys
from recollect_server.stores.codec import from_microseconds, to_microseconds
from recollect_server.stores.sql.audit_chains import SqlAuditChains

T = TypeVar("T")


@click.group()
def audit() -> None:
    """Check the audit log's chain, export it, and show its heads; see docs/audit.md."""


def _run(settings: config.Settings, work: Callable[[SqlAuditChains], Awaitable[T]]) -> T:
    return on_database(settings, lambda database: work(SqlAuditChains(database, utc_now)))


@audit.command()
@click.option("--tenant", default="", help="Default: every tenant.")
@click.option("--heads", type=click.File("r"), help="What `recollect audit heads` wrote before.")
@click.option(
    "--public-key",
    "public_keys",
    type=click.File("r"),
    multiple=True,
    help="A key that signed seals, in PEM. Default: the server's own.",
)
@database_options
def verify(
    tenant: str,
    heads: IO[str] | None,
    public_keys: tuple[IO[str], ...],
    config_file: Path | None,
    **flags: Any,
) -> None:
    """Check every event and seal; name the first that is wrong and exit with 1."""
    settings = load_settings(config_file, **flags)
    try:
        verifier = PublicKeys([file.read() for file in public_keys] or [_own_public_key(settings)])
        exported = _read_heads(heads) if heads is not None else []
    except (ValueError, StartError) as error:
        click.echo(f"recollect: {error}", err=True)
        sys.exit(2)
    if tenant:
        exported = [head for head in exported if head.tenant == tenant]
    verdicts = _run(settings, lambda chains: chains.check(verifier, exported, tenant))
    for each in verdicts:
        if each.problem:
            click.echo(f"{each.tenant}: {each.problem}", err=True)
        else:
            click.echo(
                f"{each.tenant}: {each.events} events in {each.seals} seals are whole, "
                f"{each.unsealed} wait for their seal"
            )
    sys.exit(1 if any(each.problem for each in verdicts) else 0)


@audit.command()
@click.option("--tenant", default="", help="Default: every tenant.")
@database_options
def heads(tenant: str, config_file: Path | None, **flags: Any) -> None:
    """Show the signed head of each chain, a JSON object a line. Keep them elsewhere."""
    settings = load_settings(config_file, **flags)
    for head in _run(settings, lambda chains: chains.heads(tenant)):
        click.echo(json.dumps(head.to_json()))


@audit.command()
@database_options
def key(config_file: Path | None, **flags: Any) -> None:
    """Show the public key of the server's own key, in PEM."""
    settings = load_settings(config_file, **flags)
    try:
        click.echo(_own_public_key(settings), nl=False)
    except (AuditKeyError, StartError) as error:
        fail(str(error))


@audit.command()
@click.option("--tenant", default="default", show_default=True)
@click.option("--since", type=click.DateTime(), help="UTC time of the first event.")
@click.option("--to", "file", type=click.File("w", encoding="utf-8", lazy=False), default="-")
@database_options
def export(
    tenant: str, since: datetime | None, file: IO[str], config_file: Path | None, **flags: Any
) -> None:
    """Write a tenant's events and their seals, a JSON object a line, oldest first."""
    settings = load_settings(config_file, **flags)

    async def write(chains: SqlAuditChains) -> int:
        count = 0
        after = (to_microseconds(since.replace(tzinfo=UTC)), "") if since else (0, "")
        while page := await chains.events(tenant, after):
            file.writelines(_line("event", _event(tenant, event)) for event in page)
            after = (page[-1].time, page[-1].event_id)
            count += len(page)
        seals = await chains.seals(tenant)
        file.writelines(_line("seal", seal.to_json()) for seal in seals)
        return count

    click.echo(f"{_run(settings, write)} events", err=True)


def _own_public_key(settings: config.Settings) -> str:
    """Return the public part of the key that is set, or made before.

    Raises:
        AuditKeyError, StartError: there is none.
    """
    if not settings.audit_key.get_secret_value() and not (settings.data_dir / FILE).exists():
        raise AuditKeyError(
            f"there is no key in {settings.data_dir}: name the server's --data-dir, set "
            "RECOLLECT_AUDIT_KEY, or give --public-key where a command has it"
        )
    return open_audit_key(settings).public_pem


def _read_heads(file: IO[str]) -> list[Seal]:
    """Return the heads of a file. Raises ValueError."""
    found = []
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                found.append(Seal.from_json(json.loads(line)))
            except (ValueError, AttributeError):
                raise ValueError(f"{file.name}, line {number}: no head of a chain") from None
    return found


def _event(tenant: str, event: ChainEvent) -> dict[str, Any]:
    values = {n: v.hex() if isinstance(v, bytes) else v for n, v in asdict(event).items()}
    time = from_microseconds(event.time).isoformat(timespec="microseconds")
    return {"tenant": tenant} | values | {"time": time}


def _line(kind: str, value: dict[str, Any]) -> str:
    return json.dumps({"kind": kind} | value, ensure_ascii=False) + "\n"

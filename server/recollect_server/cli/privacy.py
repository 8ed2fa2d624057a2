"""`recollect erase`, `recollect export` and `recollect import`: what a person may ask for."""

import sys
from collections.abc import Iterator
from typing import IO

import click

from recollect_server.cli.client import Server, connect, target_options

ERASE_SECONDS = 60.0
STREAM_SECONDS = 3600.0


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@target_options
def erase(yes: bool, server: Server, user: str) -> None:
    """Erase a user everywhere, and show the receipt.

    Ends with exit code 1 if anything is left; the server goes on by itself, and the same command
    shows how far it is.
    """
    if not yes:
        click.confirm(f"Erase {user!r} from every store, for good?", abort=True)
    with connect(server) as client:
        receipt = client.admin.erase_user(user, timeout=ERASE_SECONDS)
    for store in receipt.stores:
        left = store.problem or f"{store.remaining} left"
        click.echo(f"{store.store:28} {store.removed:8} removed, {left}")
    if not receipt.complete:
        click.echo(f"not complete yet: {receipt.erasure_id}", err=True)
        sys.exit(1)
    click.echo(f"complete, audit event {receipt.audit_event_id}")


@click.command()
@click.option("--to", "file", type=click.File("w", encoding="utf-8", lazy=False), default="-")
@click.option("--vectors", is_flag=True, help="Include the vectors of texts.")
@target_options
def export(file: IO[str], vectors: bool, server: Server, user: str) -> None:
    """Write everything kept of a user, a JSON object a line; see docs/export-format.md."""
    count = 0
    with connect(server) as client:
        for record in client.admin.export_user(
            user, include_vectors=vectors, timeout=STREAM_SECONDS
        ):
            file.write(record + "\n")
            count += 1
    click.echo(f"{count} records", err=True)


@click.command(name="import")
@click.option("--from", "file", type=click.File("r", encoding="utf-8"), default="-")
@target_options
def import_(file: IO[str], server: Server, user: str) -> None:
    """Store what `recollect export` wrote, for a user without data; all of it or nothing."""

    def records() -> Iterator[str]:
        # Not splitlines: a text may hold other characters that part lines.
        for line in file:
            if text := line.strip("\r\n"):
                yield text

    with connect(server) as client:
        count = client.admin.import_user(user, records(), timeout=STREAM_SECONDS)
    click.echo(f"{count} records", err=True)

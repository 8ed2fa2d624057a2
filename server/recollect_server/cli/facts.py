"""`recollect facts`: list a user's facts, their history, and forget them."""

import click

from recollect.v1 import memory_pb2
from recollect_server.cli.client import Server, connect, target_options

KINDS = [
    name.removeprefix("FACT_KIND_").lower()
    for name, number in memory_pb2.FactKind.items()
    if number
]


def kind_number(name: str) -> memory_pb2.FactKind.ValueType:
    """Return the kind of a name of KINDS."""
    return memory_pb2.FactKind.Value(f"FACT_KIND_{name.upper()}")


def kind_name(kind: memory_pb2.FactKind.ValueType) -> str:
    """Return the name of a kind."""
    return memory_pb2.FactKind.Name(kind).removeprefix("FACT_KIND_").lower()


@click.group()
def facts() -> None:
    """List a user's facts, show how they came about, and forget them."""


@facts.command("list")
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Only this kind.")
@click.option("--all", "every", is_flag=True, help="Also facts that no longer hold.")
@target_options
def list_(kinds: tuple[str, ...], every: bool, server: Server, user: str) -> None:
    """List facts, most recently recorded first."""
    with connect(server, user) as client:
        wanted = [kind_number(kind) for kind in kinds]
        for fact in client.memory.list_facts(kinds=wanted, include_closed=every):
            click.echo(f"{fact.fact_id}  {_line(fact)}")


@facts.command()
@click.argument("fact_id")
@target_options
def history(fact_id: str, server: Server, user: str) -> None:
    """Show every version of a fact, oldest first, and the messages it is from."""
    with connect(server, user) as client:
        for fact in client.memory.get_fact_history(fact_id):
            click.echo(f"{fact.version}  {_line(fact)}")
            click.echo(f"   recorded {fact.recorded_at.ToDatetime():%Y-%m-%d %H:%M:%S}")
            for source in fact.sources:
                messages = f"{source.first_sequence} to {source.last_sequence}"
                click.echo(f"   from session {source.session_id}, messages {messages}")
            if fact.superseded_by:
                click.echo(f"   superseded by {fact.superseded_by}")


@facts.command()
@click.argument("fact_ids", nargs=-1, required=True, metavar="FACT_ID...")
@target_options
def forget(fact_ids: tuple[str, ...], server: Server, user: str) -> None:
    """Delete facts with their history."""
    with connect(server, user) as client:
        for fact_id in fact_ids:
            client.memory.forget_fact(fact_id)
            click.echo(f"{fact_id} forgotten")


def _line(fact: memory_pb2.Fact) -> str:
    until = f" to {fact.valid_to.ToDatetime():%Y-%m-%d}" if fact.HasField("valid_to") else ""
    since = f"{fact.valid_from.ToDatetime():%Y-%m-%d}{until}"
    return f"{since}  {kind_name(fact.kind)}  {fact.confidence:.2f}  {fact.text}"

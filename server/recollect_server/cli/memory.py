"""`recollect remember` and `recollect recall`."""

import click

from recollect.v1 import common_pb2, memory_pb2
from recollect_server.cli.client import connect, target_options
from recollect_server.cli.facts import KINDS, kind_number


@click.command()
@click.argument("facts", nargs=-1, required=True, metavar="FACT...")
@click.option("--kind", type=click.Choice(KINDS), default="other", show_default=True)
@click.option("--reconcile", is_flag=True, help="Merge with similar facts, or supersede them.")
@target_options
def remember(
    facts: tuple[str, ...],
    kind: str,
    reconcile: bool,
    target: str,
    api_key: str | None,
    user: str,
) -> None:
    """Store facts about a user, one argument each."""
    new = [memory_pb2.NewFact(text=text, kind=kind_number(kind)) for text in facts]
    with connect(target, api_key, user) as client:
        response = client.memory.remember(new, reconcile=reconcile)
        for fact, action in zip(response.facts, response.actions, strict=True):
            done = memory_pb2.FactAction.Name(action).removeprefix("FACT_ACTION_").lower()
            click.echo(f"{fact.fact_id}  {done}  {fact.text}")
        for degradation in response.degradations:
            click.echo(f"degraded: {degradation.effect}", err=True)


@click.command()
@click.argument("query")
@click.option("--top-k", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--explain", is_flag=True, help="Show every score that made the rank.")
@target_options
def recall(
    query: str, top_k: int, explain: bool, target: str, api_key: str | None, user: str
) -> None:
    """Find facts and messages of a user by meaning and words."""
    with connect(target, api_key, user) as client:
        response = client.memory.recall(query, top_k=top_k, explain=explain)
        if not response.hits:
            click.echo("nothing found")
        for hit in response.hits:
            click.echo(f"{hit.score:7.2f}  {_line(hit)}")
            for term in hit.explanation:
                click.echo(f"           {term.name}: {term.value:.3f} x {term.weight:g}")
        for degradation in response.degradations:
            click.echo(f"degraded: {degradation.effect}", err=True)


def _line(hit: memory_pb2.RecallHit) -> str:
    if hit.HasField("fact"):
        return f"fact  {hit.fact.text}"
    turn = hit.turn
    speaker = turn.author_name or common_pb2.Role.Name(turn.role).removeprefix("ROLE_").lower()
    text = " ".join(part.text for part in turn.parts if part.HasField("text"))
    return f"{turn.time.ToDatetime():%Y-%m-%d}  {speaker}: {text}"

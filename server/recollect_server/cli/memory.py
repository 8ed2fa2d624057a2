"""`recollect remember` and `recollect recall`."""

import shutil
import sys
from collections.abc import Iterable

import click

from recollect.v1 import common_pb2, memory_pb2
from recollect_server.cli.client import Server, connect, target_options
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
    server: Server,
    user: str,
) -> None:
    """Store facts about a user, one argument each."""
    new = [memory_pb2.NewFact(text=text, kind=kind_number(kind)) for text in facts]
    with connect(server, user) as client:
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
def recall(query: str, top_k: int, explain: bool, server: Server, user: str) -> None:
    """Find facts and messages of a user by meaning and words."""
    with connect(server, user) as client:
        response = client.memory.recall(query, top_k=top_k, explain=explain)
        if not response.hits:
            click.echo("nothing found")
        for hit in response.hits:
            click.echo(_fitted(f"{hit.score:7.2f}  {_line(hit)}"))
            _explain(hit.explanation)
        for degradation in response.degradations:
            click.echo(f"degraded: {degradation.effect}", err=True)


def _line(hit: memory_pb2.RecallHit) -> str:
    if hit.HasField("fact"):
        return f"fact  {_flat(hit.fact.text)}"
    if hit.HasField("episode"):
        episode = hit.episode
        days = f"{episode.start_time.ToDatetime():%Y-%m-%d}"
        return f"{days}  episode: {_flat(episode.title)}. {_flat(episode.summary)}"
    turn = hit.turn
    speaker = turn.author_name or common_pb2.Role.Name(turn.role).removeprefix("ROLE_").lower()
    text = " ".join(part.text for part in turn.parts if part.HasField("text"))
    return f"{turn.time.ToDatetime():%Y-%m-%d}  {speaker}: {_flat(text)}"


def _explain(terms: Iterable[memory_pb2.ScoreTerm]) -> None:
    """Show the addends of a score, the largest first, each with a bar of its length."""
    addends = sorted(((term.value * term.weight, term) for term in terms), key=lambda a: -abs(a[0]))
    for points, term in addends:
        product = f"{term.value:.3f} x {term.weight:g}"
        bar = ("-" if points < 0 else "+") * round(2 * abs(points))
        click.echo(_fitted(f"{points:+15.2f}  {term.name:<10}{product:<16}{bar}"))


def _flat(text: str) -> str:
    return " ".join(text.split())


def _fitted(line: str) -> str:
    """The line, cut to the width of the terminal if it goes to one."""
    width = shutil.get_terminal_size().columns
    if not sys.stdout.isatty() or len(line) <= width:
        return line
    return line[: width - 1] + "…"

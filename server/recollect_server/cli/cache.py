"""`recollect cache`: look at the answers a server keeps, and remove some."""

import click

from recollect.v1 import cache_pb2 as pb
from recollect.v1.common_pb2 import ContentPart, Prompt, PromptMessage, Role
from recollect_server.cli.client import Server, connect, target_options
from recollect_server.cli.options import options

WIDTH = 72
"""Characters of a question that a line shows."""


scope_options = options(
    click.option("--session", default="", help="The answers of this session (SESSION)."),
    click.option("--global", "everyone", is_flag=True, help="Everyone's answers (GLOBAL)."),
)
"""Which answers: of the user, of a session, or everyone's."""


def _scope(session: str, everyone: bool) -> pb.CacheScope.ValueType:
    if session and everyone:
        raise click.UsageError("--session and --global exclude each other")
    if everyone:
        return pb.CACHE_SCOPE_GLOBAL
    return pb.CACHE_SCOPE_SESSION if session else pb.CACHE_SCOPE_USER


@click.group()
def cache() -> None:
    """See what the answer cache holds and saves, and remove answers."""


@cache.command()
@scope_options
@target_options
def stats(session: str, everyone: bool, server: Server, user: str) -> None:
    """Show hits, misses, savings and what was reported."""
    scope = _scope(session, everyone)
    with connect(server, user) as client:
        found = client.cache.get_stats(scope=scope, session_id=session)
    for name, value in _lines(found):
        click.echo(f"{name:<24}{value}")


def _lines(found: pb.GetStatsResponse) -> list[tuple[str, str]]:
    hits = found.exact_hits + found.semantic_hits
    share = f" ({hits / found.lookups:.1%})" if found.lookups else ""
    tokens = found.saved_usage.input_tokens + found.saved_usage.output_tokens
    judged = found.HasField("observed_false_hit_rate")
    observed = f", {found.observed_false_hit_rate:.1%} wrong" if judged else ""
    misses = [
        (f"  {pb.MissReason.Name(miss.reason).removeprefix('MISS_REASON_').lower()}", miss.count)
        for miss in found.misses
    ]
    return [
        (
            "lookups",
            f"{found.lookups}, median {found.median_lookup.ToMicroseconds() / 1000:.1f} ms",
        ),
        ("hits", f"{hits}{share}: {found.exact_hits} exact, {found.semantic_hits} semantic"),
        ("misses", str(found.lookups - hits)),
        *((name, str(count)) for name, count in misses),
        ("saved", f"{tokens} tokens, {found.saved_usd:.4f} US dollars"),
        ("reported", f"{found.reported_wrong} wrong, {found.reported_right} right{observed}"),
        ("entries", f"{found.entries}, {found.entry_bytes} bytes"),
    ]


@cache.command("list")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@scope_options
@target_options
def list_(limit: int, session: str, everyone: bool, server: Server, user: str) -> None:
    """List answers, newest first."""
    scope = _scope(session, everyone)
    with connect(server, user) as client:
        entries = client.cache.list_entries(
            scope=scope, session_id=session, page_size=min(limit, 1000)
        )
        for _, entry in zip(range(limit), entries, strict=False):
            question = " ".join(entry.question.split())[:WIDTH]
            until = entry.expire_time.ToDatetime()
            tags = f"  [{', '.join(entry.tags)}]" if entry.tags else ""
            click.echo(f"{entry.entry_id}  until {until:%Y-%m-%d %H:%M}  {question}{tags}")


@cache.command()
@click.option("--entry", help="The answer of this id.")
@click.option("--tag", help="All answers with this tag.")
@click.option("--fact", help="All answers that cite the fact of this id.")
@click.option("--like", help="All answers to a conversation like this question.")
@click.option(
    "--min-similarity",
    type=click.FloatRange(0, 1),
    default=0.9,
    show_default=True,
    help="How similar, with --like: a cosine.",
)
@click.option("--all", "whole", is_flag=True, help="All answers of the scope.")
@click.option("--dry-run", is_flag=True, help="Count them and remove none.")
@scope_options
@target_options
def invalidate(
    entry: str | None,
    tag: str | None,
    fact: str | None,
    like: str | None,
    min_similarity: float,
    whole: bool,
    dry_run: bool,
    session: str,
    everyone: bool,
    server: Server,
    user: str,
) -> None:
    """Remove answers: by one of --entry, --tag, --fact, --like, or all of a scope by --all."""
    if sum(map(bool, (entry, tag, fact, like, whole))) != 1:
        raise click.UsageError("give one of --entry, --tag, --fact, --like and --all")
    if (session or everyone) and not whole:
        raise click.UsageError("--session and --global go with --all")
    selector = (
        pb.CacheScopeSelector(scope=_scope(session, everyone), session_id=session)
        if whole
        else None
    )
    similar = (
        pb.SimilaritySelector(prompt=_question(like), min_similarity=min_similarity)
        if like
        else None
    )
    with connect(server, user) as client:
        count = client.cache.invalidate(
            entry_id=entry,
            tag=tag,
            cited_fact_id=fact,
            similar=similar,
            scope=selector,
            dry_run=dry_run,
        )
    click.echo(f"{count} {'would be removed' if dry_run else 'removed'}")


def _question(text: str) -> Prompt:
    message = PromptMessage(role=Role.ROLE_USER, parts=[ContentPart(text=text)])
    return Prompt(model="any", messages=[message])

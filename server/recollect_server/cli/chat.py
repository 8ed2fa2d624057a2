"""`recollect chat`: an interactive session that shows what memory and cache do."""

import sys
from collections.abc import Iterator

import click
from rich.console import Console

from recollect import Recollect
from recollect.v1 import cache_pb2, chat_pb2, memory_pb2
from recollect_server.cli.client import connect, target_options

PART_NAMES = {
    memory_pb2.CONTEXT_PART_WINDOW: "window",
    memory_pb2.CONTEXT_PART_SUMMARY: "summary",
    memory_pb2.CONTEXT_PART_FACT: "facts",
    memory_pb2.CONTEXT_PART_TURN: "turns",
    memory_pb2.CONTEXT_PART_EPISODE: "episodes",
}


@click.command()
@click.option("--session", "session_id", help="Go on with this session. Default: a new one.")
@click.option("--model", default="", help="Default: the server's.")
@target_options
def chat(session_id: str | None, model: str, target: str, api_key: str | None, user: str) -> None:
    """Chat in the terminal. A line is a message; Ctrl-D ends.

    Below each answer stands what went into it: how many messages of the window, which facts and
    earlier turns were recalled, and whether the answer came from the cache.
    """
    console = Console(highlight=False)
    with connect(target, api_key, user) as client:
        info = client.admin.get_server_info()
        session = session_id or client.memory.create_session().session_id
        console.print(f"[dim]session {session}, {info.chat_model}. {info.chat_notice}[/]")
        for line in _lines():
            _turn(console, client, session, line, chat_pb2.ChatOptions(model=model))


def _lines() -> Iterator[str]:
    interactive = sys.stdin.isatty()
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line:
            yield line


def _turn(
    console: Console, client: Recollect, session: str, line: str, options: chat_pb2.ChatOptions
) -> None:
    items: list[memory_pb2.ContextItem] = []
    for event in client.chat.stream(session, line, options=options):
        match event.WhichOneof("event"):
            case "context":
                items = [item for item in event.context.items if not item.omitted]
            case "delta":
                console.print(event.delta.text, end="", markup=False)
            case "done":
                console.print()
                console.print(f"[dim]{_footer(items, event.done.turn)}[/]")


def _footer(items: list[memory_pb2.ContextItem], turn: chat_pb2.Turn) -> str:
    counts = {name: sum(i.part == part for i in items) for part, name in PART_NAMES.items()}
    used = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    if turn.cache.hit:
        source = f"cache ({cache_pb2.CacheTier.Name(turn.cache.tier).removeprefix('CACHE_TIER_')})"
    else:
        source = turn.model
    milliseconds = turn.timings.first_token.ToMicroseconds() / 1000
    return f"from {source} in {milliseconds:.0f} ms; context: {used}"

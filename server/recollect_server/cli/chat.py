"""`recollect chat`: an interactive session that shows what memory and cache do."""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown

from recollect import Recollect, errors
from recollect._messages import new_request_id
from recollect.v1 import cache_pb2, chat_pb2, common_pb2, memory_pb2
from recollect_server.cli.chat_commands import Commands, Spent
from recollect_server.cli.client import Server, connect, target_options

PART_NAMES = {
    memory_pb2.CONTEXT_PART_WINDOW: "window",
    memory_pb2.CONTEXT_PART_SUMMARY: "summary",
    memory_pb2.CONTEXT_PART_FACT: "facts",
    memory_pb2.CONTEXT_PART_TURN: "turns",
    memory_pb2.CONTEXT_PART_EPISODE: "episodes",
}
PROFILES = ("buffer", "summary", "long-term", "full", "audit")
SHOWN_MESSAGES = 6
"""Messages of a session that are shown when it goes on."""
MOST_LINES = 1000


@click.command()
@click.option("--session", "session_id", help="Go on with this session. Default: a new one.")
@click.option("--model", default="", help="Default: the server's.")
@click.option("--system", default="", help="Instructions for the model.")
@click.option("--profile", type=click.Choice(PROFILES), default="full", show_default=True)
@target_options
def chat(
    session_id: str | None,
    model: str,
    system: str,
    profile: str,
    server: Server,
    user: str,
) -> None:
    """Chat in the terminal. A line is a message; Ctrl-C ends an answer, Ctrl-D the chat.

    Below each answer stands what went into it: how many messages of the window, which facts and
    earlier turns were recalled, and whether the answer came from the cache. /help lists what else
    can be typed.
    """
    console = Console(highlight=False)
    options = chat_pb2.ChatOptions(model=model, system=system)
    options.context.profile = memory_pb2.ContextProfile.Value(
        f"CONTEXT_PROFILE_{profile.replace('-', '_').upper()}"
    )
    with connect(server, user) as client:
        info = client.admin.get_server_info()
        session = session_id or client.memory.create_session().session_id
        console.print(f"[dim]session {session}, {info.chat_model}. {info.chat_notice}[/]")
        if session_id:
            _show_history(console, client, session)
        commands = Commands(console, client, session, options.context)
        for line in _lines(_history_file()):
            if line.startswith("/"):
                if not commands.run(line):
                    return
                continue
            try:
                Turn(console, client, session, options).run(line, commands.spent)
            except errors.RecollectError as error:
                if not sys.stdin.isatty():
                    raise
                console.print(f"[red]{_said_of(error)}[/]", markup=True)


def _said_of(error: errors.RecollectError) -> str:
    wait = f" Try again in {error.retry_after:.0f} s." if error.retry_after else ""
    return f"{error.message}.{wait}"


def _history_file() -> Path:
    return Path(click.get_app_dir("recollect")) / "chat_history"


def _lines(history: Path) -> Iterator[str]:
    interactive = sys.stdin.isatty()
    if interactive:
        with suppress(ImportError):
            _remember_lines(history)
    while True:
        try:
            line = input("> " if interactive else "").strip()
        except KeyboardInterrupt:
            click.echo()
            continue
        except EOFError:
            return
        if line:
            yield line


def _remember_lines(history: Path) -> None:
    """Let the arrow keys bring back earlier lines, also those of earlier chats."""
    import atexit
    import readline

    with suppress(OSError):
        readline.read_history_file(history)
    readline.set_history_length(MOST_LINES)

    def save() -> None:
        with suppress(OSError):
            history.parent.mkdir(parents=True, exist_ok=True)
            history.touch(mode=0o600)
            readline.write_history_file(history)

    atexit.register(save)


def _show_history(console: Console, client: Recollect, session: str) -> None:
    messages = []
    for message in client.memory.list_messages(session, order=memory_pb2.LIST_ORDER_NEWEST_FIRST):
        messages.append(message)
        if len(messages) == SHOWN_MESSAGES:
            break
    for message in reversed(messages):
        text = "\n".join(part.text for part in message.parts if part.HasField("text"))
        if message.role == common_pb2.ROLE_USER:
            console.print(f"> {text}", style="dim", markup=False)
        elif text:
            console.print(Markdown(text) if console.is_terminal else text, style="dim")


class Turn:
    """One message and its answer, shown as it comes."""

    def __init__(
        self, console: Console, client: Recollect, session: str, options: chat_pb2.ChatOptions
    ) -> None:
        self._console = console
        self._client = client
        self._session = session
        self._options = options
        self._turn_id = ""
        self._text = ""
        self._items: list[memory_pb2.ContextItem] = []
        self._live: Live | None = None

    def run(self, line: str, spent: Spent) -> None:
        """Send a line; a turn whose server died is started over once."""
        request_id = new_request_id()
        try:
            for _ in range(2):
                ended = self._stream(line, request_id)
                if ended is None or not ended.HasField("interrupted"):
                    break
                self._console.print("[dim]the server ended; starting over[/]")
        except KeyboardInterrupt:
            self._cancel()
            return
        if ended is not None and ended.HasField("done"):
            spent.add(ended.done.turn)
            self._console.print(f"[dim]{_footer(self._items, ended.done.turn)}[/]")

    def _stream(self, line: str, request_id: str) -> chat_pb2.ChatEvent | None:
        event = None
        try:
            for event in self._client.chat.stream(
                self._session, line, options=self._options, request_id=request_id
            ):
                match event.WhichOneof("kind"):
                    case "started":
                        self._start_over(event.started.turn_id)
                    case "context":
                        self._items = [item for item in event.context.items if not item.omitted]
                    case "delta":
                        self._show(event.delta.text)
                    case "tool_use":
                        self._show(f"\n`{event.tool_use.name}` is asked for.\n")
        finally:
            self._end()
        return event

    def _start_over(self, turn_id: str) -> None:
        self._turn_id = turn_id
        if self._text and not self._console.is_terminal:
            self._console.print("\n[dim]starting over[/]")
        self._text = ""

    def _show(self, text: str) -> None:
        self._text += text
        if not self._console.is_terminal:
            self._console.print(text, end="", markup=False)
            return
        if self._live is None:
            self._live = Live(
                console=self._console, refresh_per_second=12, vertical_overflow="visible"
            )
            self._live.start()
        self._live.update(Markdown(self._text))

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        elif self._text:
            self._console.print()

    def _cancel(self) -> None:
        if self._turn_id:
            self._client.chat.cancel_turn(self._turn_id)
        self._console.print("[dim]cancelled; what was said is kept[/]")


def _footer(items: list[memory_pb2.ContextItem], turn: chat_pb2.Turn) -> str:
    counts = {name: sum(i.part == part for i in items) for part, name in PART_NAMES.items()}
    used = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    if turn.cache.hit:
        source = f"cache ({cache_pb2.CacheTier.Name(turn.cache.tier).removeprefix('CACHE_TIER_')})"
    else:
        source = turn.model
    milliseconds = turn.timings.first_token.ToMicroseconds() / 1000
    return f"from {source} in {milliseconds:.0f} ms; context: {used}"

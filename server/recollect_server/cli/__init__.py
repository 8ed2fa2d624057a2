"""The `recollect` command. Each command's modules load when it runs, so that help is instant."""

import importlib
from typing import Any

import click

from recollect_server.cli.loading import loading

COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("serve", "Start the server."),
    "worker": ("serve", "Do background work apart from the server."),
    "migrate": ("migrate", "Bring the database to this version's schema."),
    "backup": ("backup", "Copy the SQLite database while servers use it."),
    "doctor": ("doctor", "Check the settings and everything they name, and say what to do."),
    "health": ("health", "Ask a server or worker whether it serves."),
    "chat": ("chat", "Chat in the terminal, and see what was recalled."),
    "remember": ("memory", "Store facts about a user."),
    "facts": ("facts", "List, explain and forget a user's facts."),
    "recall": ("memory", "Find facts and messages of a user."),
    "reindex": ("reindex", "Move the index to another vector store."),
    "cache": ("cache", "See what the answer cache holds and saves, and remove answers."),
    "export": ("privacy", "Write everything kept of a user to a file."),
    "import": ("privacy", "Store what was exported for a new user."),
    "erase": ("privacy", "Erase a user everywhere, and prove it."),
    "audit": ("audit", "Check the audit log's chain, export it, and show its heads."),
    "keys": ("keys", "Make, list and revoke API keys."),
    "bench": ("bench", "Measure a server."),
}
"""Module below `recollect_server.cli` and one line of help, by command."""

ATTRIBUTES = {"import": "import_"}
"""Names in the module that differ from the command's."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands' names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command."""
        if cmd_name not in COMMANDS:
            return None
        with loading():
            module = importlib.import_module(f"recollect_server.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, ATTRIBUTES.get(cmd_name, cmd_name))
        return command

    def format_commands(self, ctx: click.Context, formatter: Any) -> None:
        """Write the list of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup)
@click.version_option(package_name="recollect-server", prog_name="recollect")
def main() -> None:
    """Recollect: a gRPC memory server for LLM applications."""

"""The chat that every client has as its example, run against a server."""

import os
from collections.abc import Callable
from typing import Any

from tests.harness import RunningServer, unique

TYPED = "Hello\n\nHow is my cat called?\n"


def chats_and_remembers(server: RunningServer, run: Callable[..., str], *command: Any) -> None:
    """Check an example.

    Args:
        run: runs `command` with `input` and `env` as `subprocess.run` takes them, and returns what
            it printed.
    """
    name = unique("Tom")
    with server.client("ada") as client:
        client.memory.remember([f"My cat is called {name}"])
    said = run(*command, input=TYPED, env=os.environ | {"RECOLLECT_ADDRESS": server.address})
    assert said.count("> ") == 4
    assert name in said

"""Options that several commands have."""

from collections.abc import Callable
from typing import Any, TypeVar

Command = TypeVar("Command", bound=Callable[..., Any])
Option = Callable[[Any], Any]


def options(*each: Option) -> Callable[[Command], Command]:
    """Return a decorator that adds options, which `--help` shows in this order."""

    def add(command: Command) -> Command:
        for option in reversed(each):
            command = option(command)
        return command

    return add

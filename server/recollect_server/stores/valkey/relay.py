"""Messages between server processes about turns of chat, each to one process's own channel.

Messages of a moment for one process share a PUBLISH. Nothing is stored, so nothing has to be
removed; what is lost with an outage is in SQL a second later.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import structlog

from recollect_server.chat.ports import Cancel, Follow, News, RelayMessage
from recollect_server.stores.codec import CorruptDataError, pack, unpack
from recollect_server.stores.event_codec import decode_events, encode_events
from recollect_server.stores.valkey.connect import open_messenger
from recollect_server.stores.valkey.keys import PREFIX

log = structlog.get_logger("recollect.relay")

MOST_UNSENT = 10_000
"""Messages that wait in an outage; those beyond are dropped."""

_FOLLOW, _CANCEL, _NEWS = range(3)


class ValkeyRelay:
    """Implements `chat.ports.Relay`; `run` must be running.

    Args:
        url: the server that carries the messages, as in `connect`.
        process: this process's name, unlike any other's.
    """

    def __init__(self, url: str, process: str) -> None:
        self.process = process
        self._messenger = open_messenger(url)
        self._handler: Callable[[RelayMessage], None] | None = None
        self._unsent: dict[str, list[list[Any]]] = defaultdict(list)
        self._waiting = 0
        self._added = asyncio.Event()

    def send(self, to: str, message: RelayMessage) -> None:
        """See `Relay`."""
        if self._waiting < MOST_UNSENT:
            self._waiting += 1
            self._unsent[to].append(_plain(message))
            self._added.set()

    def receive(self, handler: Callable[[RelayMessage], None]) -> None:
        """See `Relay`."""
        self._handler = handler

    async def run(self) -> None:
        """Send and hear until cancelled; an outage is waited out."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._send())
                group.create_task(self._messenger.hear(_channel(self.process), self._take))
        finally:
            await self._messenger.close()

    async def _send(self) -> None:
        while True:
            await self._added.wait()
            self._added.clear()
            unsent, self._unsent = self._unsent, defaultdict(list)
            self._waiting = 0
            for to, messages in unsent.items():
                await self._messenger.publish(_channel(to), pack(messages))

    def _take(self, data: bytes) -> None:
        try:
            messages = [_message(plain) for plain in unpack(data)]
        except (CorruptDataError, TypeError, ValueError):
            log.warning("a message that is none was dropped")
            return
        for message in messages:
            if self._handler is not None:
                self._handler(message)


def _channel(process: str) -> str:
    return f"{PREFIX}turns:{process}"


def _plain(message: RelayMessage) -> list[Any]:
    match message:
        case Follow(turn_id, process, attempt, after):
            return [_FOLLOW, turn_id, process, attempt, after]
        case Cancel(turn_id):
            return [_CANCEL, turn_id]
        case News(turn_id, attempt, events):
            return [_NEWS, turn_id, attempt, encode_events(events)]


def _message(plain: list[Any]) -> RelayMessage:
    match plain:
        case [0, str(turn_id), str(process), int(attempt), int(after)]:
            return Follow(turn_id, process, attempt, after)
        case [1, str(turn_id)]:
            return Cancel(turn_id)
        case [2, str(turn_id), int(attempt), bytes(events)]:
            return News(turn_id, attempt, decode_events(events))
    raise CorruptDataError("not a message between processes")

"""Erasing a user from Valkey or Redis: every key is looked at, so nothing has to be listed."""

import asyncio
from collections.abc import AsyncGenerator

from recollect_server.scope import Scope
from recollect_server.stores.codec import CorruptDataError
from recollect_server.stores.valkey.connect import Client, Refused
from recollect_server.stores.valkey.entry_codec import decode_entry
from recollect_server.stores.valkey.keys import (
    ENTRY_PREFIX,
    registers_key,
    session_keys,
    user_mark,
)
from recollect_server.stores.valkey.register import REMOVE, keys_of, tag_of, tags_of

AT_ONCE = 100
"""Entries that are asked for at once."""


class ValkeySessionData:
    """A user's windows and ephemeral sessions; implements `admin.erasing.UserData`."""

    name = "state"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def erase(self, scope: Scope) -> int:
        """See `UserData`."""
        removed = 0
        async for keys in self._client.scan(session_keys(scope)):
            removed += sum(await asyncio.gather(*(self._client.delete(key) for key in keys)))
        return removed

    async def count(self, scope: Scope) -> int:
        """See `UserData`."""
        return len({key async for keys in self._client.scan(session_keys(scope)) for key in keys})


class ValkeyAnswerData:
    """The answers to a user's questions, of all scopes; implements `admin.erasing.UserData`.

    An entry says whose question it answers, so those are found, too, of which no register knows.
    """

    name = "cache"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def erase(self, scope: Scope) -> int:
        """See `UserData`."""
        removed = 0
        async for keys in self._entries(scope):
            for key in keys:
                await self._leave_register(scope, key)
            removed += sum(await asyncio.gather(*(self._client.delete(key) for key in keys)))
        for tag in tags_of(scope):
            await self._client.delete(*keys_of(tag))
            listed = registers_key(tag)
            await self._client.command(listed, "ZREM", listed, tag)
        return removed

    async def count(self, scope: Scope) -> int:
        """See `UserData`."""
        entries = {key async for keys in self._entries(scope) for key in keys}
        parts = [key for tag in tags_of(scope) for key in keys_of(tag)]
        found = await asyncio.gather(*(self._client.command(p, "EXISTS", p) for p in parts))
        return len(entries) + sum(map(int, found))

    async def _entries(self, scope: Scope) -> AsyncGenerator[list[str]]:
        """Yield the keys of the user's entries."""
        mark = user_mark(scope)
        async for keys in self._client.scan(f"{ENTRY_PREFIX}*"):
            for start in range(0, len(keys), AT_ONCE):
                some = keys[start : start + AT_ONCE]
                marks = await asyncio.gather(*(self._field(key, "o") for key in some))
                found = [key for key, each in zip(some, marks, strict=True) if each == mark]
                if found:
                    yield found

    async def _leave_register(self, scope: Scope, key: str) -> None:
        """Take an entry out of the register of its owner, which is the tenant for GLOBAL ones."""
        value = await self._field(key, "v")
        if value is None:
            return
        try:
            entry = decode_entry(value)
        except CorruptDataError:
            return
        owner = Scope(scope.tenant, entry.user_id)
        tag = tag_of(owner, entry.entry_id)
        await self._client.run(REMOVE, keys_of(tag), [entry.entry_id.encode()])

    async def _field(self, key: str, name: str) -> bytes | None:
        try:
            value: bytes | None = await self._client.command(key, "HGET", key, name)
        except Refused as error:
            if not error.wrong_type:
                raise
            return None  # a key of another kind is no entry
        return value

"""The answer cache in Valkey or Redis: a hash an entry, and a register of them an owner."""

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from recollect_server.cache.model import CacheEntry, Partition, StoredAnswer
from recollect_server.cache.ports import Selector
from recollect_server.memory.model import Vector
from recollect_server.scope import Scope
from recollect_server.stores.codec import CorruptDataError
from recollect_server.stores.valkey.connect import Client, Refused, Script
from recollect_server.stores.valkey.entry_codec import (
    Finding,
    decode_entry,
    decode_finding,
    encode_entry,
    encode_finding,
)
from recollect_server.stores.valkey.keys import digest, entry_key, registers_key, user_mark
from recollect_server.stores.valkey.register import (
    ADD,
    FIND,
    PAGE,
    REMOVE,
    TOUCH,
    keys_of,
    shards,
    tag_of,
    tags_of,
)

log = structlog.get_logger("recollect.valkey")

GRACE_MILLISECONDS = 60_000
"""An entry that ended is kept so much longer, so that a miss can say that it has expired."""

_MILLISECOND = timedelta(milliseconds=1)

# A command may be sent twice, and half an entry must not be seen.
_PUT = Script("""
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
""")

# A key of another kind reads as an empty value, which is corrupt.
_GET = Script("""
local answer = {}
for _, key in ipairs(KEYS) do
  local found = redis.pcall('HMGET', key, 'v', 'c')
  if found.err then
    if not string.find(found.err, 'WRONGTYPE', 1, true) then return found end
    found = {'', ''}
  end
  answer[#answer + 1] = found[1]
  answer[#answer + 1] = found[2]
end
return answer
""")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an owner's entries may be.

    Attributes:
        entries: their number.
        bytes: of the values of all of them.
    """

    entries: int = 10_000
    bytes: int = 64 * 1024 * 1024


class NearestIndex(Protocol):
    """Finds entries by vector; see `AnswerStore` for `prepare`, `nearest` and `forget`."""

    async def open(self) -> None:
        """Make what is needed; the other methods follow it. Raises `Unavailable`."""

    def register_vector(self, vector: Vector) -> bytes:
        """Return what the register keeps of a vector, b"" for nothing."""

    def entry_fields(self, answer: StoredAnswer, vector: Vector) -> Sequence[str | bytes]:
        """Return names and values of further fields of the entry's hash."""

    async def prepare(self, owner: Scope) -> None:
        """Do ahead what `nearest` would have to do first."""

    async def nearest(
        self, owner: Scope, group: str, vector: Vector, limit: int
    ) -> tuple[str, ...]:
        """Return the ids of the nearest entries."""

    def forget(self, owner: Scope, entry_ids: Sequence[str]) -> None:
        """Leave entries out that turned out to be gone."""

    def forget_user(self, owner: Scope) -> int:
        """Drop what this process keeps of an owner; return how many copies there were."""


class ValkeyAnswers:
    """Implements `AnswerStore`.

    Args:
        hasty: for lookups; gives up soon.
        patient: for everything else; the same server.
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        hasty: Client,
        patient: Client,
        index: NearestIndex,
        *,
        limits: Limits,
        clock: Callable[[], datetime],
    ) -> None:
        self._hasty = hasty
        self._patient = patient
        self._index = index
        self._limits = limits
        self._clock = clock

    async def get(self, tenant: str, entry_id: str) -> CacheEntry | None:
        """See `AnswerStore`."""
        key = entry_key(tenant, entry_id)
        try:
            value = await self._hasty.command(key, "HGET", key, "v")
            return None if value is None else _entry_of(entry_id, value)
        except CorruptDataError:
            await self._corrupt(key)
        except Refused as error:
            if not error.wrong_type:
                raise
            await self._corrupt(key)
        return None

    async def get_many(
        self, tenant: str, entry_ids: Sequence[str]
    ) -> tuple[StoredAnswer | None, ...]:
        """See `AnswerStore`."""
        keys = [entry_key(tenant, entry_id) for entry_id in entry_ids]
        # Keys of a cluster are asked for where they are, those of one server all at once.
        groups = [[key] for key in keys] if self._hasty.clustered else [keys] if keys else []
        values = [
            value
            for answer in await asyncio.gather(*(self._hasty.run(_GET, g, []) for g in groups))
            for value in answer
        ]
        found = zip(keys, entry_ids, values[::2], values[1::2], strict=True)
        return tuple([await self._stored(*each) for each in found])

    async def put(self, owner: Scope, answer: StoredAnswer) -> None:
        """See `AnswerStore`."""
        entry = answer.entry
        ttl = math.ceil((entry.expire_time - self._clock()) / _MILLISECOND)
        if ttl <= 0:
            await self.remove(owner, [entry.entry_id])
            return
        digests = answer.question, answer.same, answer.group, answer.model_group
        finding = Finding(*digests, answer.conversation)
        author = user_mark(Scope(owner.tenant, answer.author or owner.user_id))
        fields: list[str | bytes] = ["v", encode_entry(entry), "c", encode_finding(finding)]
        fields += ["o", author]
        kept = b""
        if answer.candidate is not None:
            await self._index.open()
            kept = self._index.register_vector(answer.candidate)
            fields += self._index.entry_fields(answer, answer.candidate)
        size = sum(len(field) for field in fields) + len(kept)
        # In the register first: an entry that is not in it could not be invalidated.
        victims = await self._register(owner, answer, ttl, size, kept)
        key = entry_key(owner.tenant, entry.entry_id)
        values = [field.encode() if isinstance(field, str) else field for field in fields]
        await self._patient.run(_PUT, [key], [ttl + GRACE_MILLISECONDS, *values])
        if victims:
            await self.remove(owner, victims)

    async def remove(self, owner: Scope, entry_ids: Sequence[str]) -> None:
        """See `AnswerStore`."""
        await asyncio.gather(*(self._patient.delete(entry_key(owner.tenant, i)) for i in entry_ids))
        await self._on_registers(owner, REMOVE, entry_ids)

    async def find(self, owner: Scope, selector: Selector) -> tuple[str, ...]:
        """See `AnswerStore`."""
        found = await self._find(owner, selector)
        return tuple(entry_id.decode() for answer in found for entry_id in answer[1:])

    async def size(self, partition: Partition) -> tuple[int, int]:
        """See `AnswerStore`."""
        found = await self._find(partition.owner, Selector(partition))
        return sum(len(a) - 1 for a in found), sum(a[0] for a in found)

    async def page(
        self, partition: Partition, *, limit: int, after: tuple[int, str] | None
    ) -> tuple[tuple[int, str], ...]:
        """See `AnswerStore`."""
        # A revision is one register's, so two entries of two registers may have the same one:
        # ids that come later are asked for again and left out.
        below = "+inf" if after is None else after[0] + 1
        argument = str(below).encode()
        owner = partition.owner
        wanted = limit + shards(owner)
        answers = await asyncio.gather(
            *(
                self._patient.run(PAGE, keys_of(tag), [_mark(partition), argument, wanted])
                for tag in tags_of(owner)
            )
        )
        rows = [
            (int(answer[at + 1]), answer[at].decode())
            for answer in answers
            for at in range(0, len(answer), 2)
        ]
        rows.sort(reverse=True)
        return tuple(row for row in rows if after is None or row < after)[:limit]

    async def same(self, owner: Scope, same: str) -> str | None:
        """See `AnswerStore`."""
        for tag in tags_of(owner):
            key = keys_of(tag)[5]
            found = await self._hasty.command(key, "HGET", key, same)
            if found is not None:
                return str(found.decode())
        return None

    async def used(self, owner: Scope, entry_ids: Sequence[str]) -> None:
        """See `AnswerStore`."""
        await self._on_registers(owner, TOUCH, entry_ids)

    async def prepare(self, owner: Scope) -> None:
        """See `AnswerStore`."""
        await self._index.prepare(owner)

    async def nearest(
        self, owner: Scope, group: str, vector: Vector, limit: int
    ) -> tuple[str, ...]:
        """See `AnswerStore`."""
        return await self._index.nearest(owner, group, vector, limit)

    async def forget(self, owner: Scope, entry_ids: Sequence[str]) -> None:
        """See `AnswerStore`."""
        self._index.forget(owner, entry_ids)

    async def _register(
        self, owner: Scope, answer: StoredAnswer, ttl: int, size: int, kept: bytes
    ) -> list[str]:
        entry = answer.entry
        marks = [_mark(entry.partition(owner.tenant)).decode()]
        marks += [digest("tag", tag) for tag in entry.tags]
        marks += [digest("fact", fact_id) for fact_id in entry.cited_fact_ids]
        row = "|".join((answer.group, answer.model_group, ",".join(marks)))
        tag, count = tag_of(owner, entry.entry_id), shards(owner)
        arguments: list[str | bytes | int] = [entry.entry_id, ttl, size, answer.same, row, kept]
        limits = [max(1, self._limits.entries // count), max(1, self._limits.bytes // count)]
        encoded = [a.encode() if isinstance(a, str) else a for a in arguments]
        ends, *victims = await self._patient.run(ADD, keys_of(tag), [*encoded, *limits])
        lists = registers_key(tag)
        await self._patient.command(lists, "ZADD", lists, "GT", ends, tag)
        return [victim.decode() for victim in victims]

    async def _find(self, owner: Scope, selector: Selector) -> list[list[Any]]:
        marks = [] if selector.partition is None else [_mark(selector.partition)]
        if selector.tag is not None:
            marks.append(digest("tag", selector.tag).encode())
        if selector.fact_id is not None:
            marks.append(digest("fact", selector.fact_id).encode())
        found: list[list[Any]] = await asyncio.gather(
            *(self._patient.run(FIND, keys_of(tag), marks) for tag in tags_of(owner))
        )
        return found

    async def _on_registers(self, owner: Scope, script: Script, entry_ids: Sequence[str]) -> None:
        by_tag: dict[str, list[bytes]] = {}
        for entry_id in entry_ids:
            by_tag.setdefault(tag_of(owner, entry_id), []).append(entry_id.encode())
        await asyncio.gather(
            *(self._patient.run(script, keys_of(tag), ids) for tag, ids in by_tag.items())
        )

    async def _stored(
        self, key: str, entry_id: str, value: bytes | None, spoken: bytes | None
    ) -> StoredAnswer | None:
        if value is None:
            return None
        try:
            if spoken is None:
                raise CorruptDataError("an entry without what finds it")
            return StoredAnswer(_entry_of(entry_id, value), *decode_finding(spoken))
        except CorruptDataError:
            await self._corrupt(key)
            return None

    async def _corrupt(self, key: str) -> None:
        log.warning("corrupt cache entry removed", key=key)
        await self._patient.delete(key)


def _entry_of(entry_id: str, value: bytes) -> CacheEntry:
    """Return the entry, which must be the one that was asked for: nobody gets another's answer."""
    entry = decode_entry(value)
    if entry.entry_id != entry_id:
        raise CorruptDataError("another entry")
    return entry


def _mark(partition: Partition) -> bytes:
    """Return what a row has of a partition, 32 hexadecimal digits."""
    return digest("partition", partition.scope.name, partition.session_id).encode()

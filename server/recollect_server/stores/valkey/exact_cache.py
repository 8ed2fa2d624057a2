"""The exact tier of the answer cache in Valkey or Redis: one value per entry."""

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import structlog

from recollect_server.cache.model import CacheEntry
from recollect_server.scope import Scope
from recollect_server.stores.codec import CorruptDataError
from recollect_server.stores.valkey.connect import Client, Script
from recollect_server.stores.valkey.entry_codec import decode_entry, encode_entry
from recollect_server.stores.valkey.keys import citing_key, entry_key

log = structlog.get_logger("recollect.valkey")

_MILLISECOND = timedelta(milliseconds=1)

# A set lives as long as the last of its answers.
_CITE = Script("""
redis.call('SADD', KEYS[1], ARGV[1])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
""")
_CITED = Script("return redis.call('SMEMBERS', KEYS[1])")


class ValkeyExactCache:
    """`ExactCache` on one key per entry.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, client: Client, *, clock: Callable[[], datetime]) -> None:
        self._client = client
        self._clock = clock

    async def get(self, tenant: str, entry_id: str) -> CacheEntry | None:
        """Return the entry, or None; a corrupt value is logged and removed."""
        key = entry_key(tenant, entry_id)
        value = await self._client.get(key)
        if value is None:
            return None
        try:
            entry = decode_entry(value)
        except CorruptDataError:
            log.warning("corrupt cache entry removed", key=key)
            await self._client.delete(key)
            return None
        return entry if entry.expire_time > self._clock() else None

    async def put(self, tenant: str, entry: CacheEntry) -> None:
        """Store the entry until its expire_time, replacing an older one."""
        key = entry_key(tenant, entry.entry_id)
        milliseconds = math.ceil((entry.expire_time - self._clock()) / _MILLISECOND)
        if milliseconds > 0:
            for fact_id in dict.fromkeys(entry.cited_fact_ids) if entry.user_id else ():
                citing = citing_key(tenant, entry.user_id, fact_id)
                await self._client.run(_CITE, [citing], [entry.entry_id.encode(), milliseconds])
            await self._client.set(key, encode_entry(entry), px=milliseconds)
        else:
            await self._client.delete(key)

    async def delete(self, tenant: str, entry_id: str) -> bool:
        """Remove the entry; False if there was none."""
        return await self._client.delete(entry_key(tenant, entry_id)) > 0

    async def forget_facts(self, scope: Scope, fact_ids: Sequence[str]) -> None:
        """Remove the user's entries that cite any of these facts."""
        for fact_id in fact_ids:
            citing = citing_key(scope.tenant, scope.user_id, fact_id)
            for entry_id in await self._client.run(_CITED, [citing], []):
                await self._client.delete(entry_key(scope.tenant, entry_id.decode()))
            await self._client.delete(citing)

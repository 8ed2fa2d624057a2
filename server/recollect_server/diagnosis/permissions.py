"""What a Valkey's or Redis's access rules (ACL) must allow, and whether they do."""

from recollect_server.stores.valkey.connect import Client, Refused
from recollect_server.stores.valkey.keys import PREFIX

KEY = CHANNEL = f"{PREFIX}doctor"

_BOTH = """
    PING; TIME; SCAN 0; EVAL x 1 KEY; EVALSHA x 1 KEY; GET KEY; SET KEY x; EXISTS KEY; DEL KEY;
    HGET KEY x; HMGET KEY x; HSET KEY x x; HINCRBY KEY x 1; PEXPIRE KEY 1
"""

COMMANDS = {
    "state": f"""{_BOTH};
        GETRANGE KEY 0 0; LLEN KEY; LRANGE KEY 0 0; LTRIM KEY 0 0; RPUSH KEY x; PEXPIREAT KEY 1;
        PUBLISH CHANNEL x; SUBSCRIBE CHANNEL
    """,
    "cache": f"""{_BOTH};
        HDEL KEY x; HGETALL KEY; ZADD KEY 0 x; ZCARD KEY; ZRANGE KEY 0 0; ZRANGEBYSCORE KEY 0 0;
        ZREM KEY x; ZREVRANGE KEY 0 0; ZREVRANGEBYSCORE KEY 0 0;
        FT._LIST; FT.CREATE x ON HASH SCHEMA x TAG; FT.DROPINDEX x; FT.SEARCH x x
    """,
}
"""What the adapters ask of a server, in scripts or not, by its use; FT only of a search module."""


async def forbidden(client: Client, use: str) -> list[str]:
    """Return what the user may not do that the use asks for; nothing of it is done.

    Raises:
        Unavailable: the server does not answer.
    """
    try:
        # What follows is judged and queued, and then thrown away.
        await client.command(KEY, "MULTI")
    except Refused as refusal:
        if not refusal.forbidden:
            raise
        return ["MULTI, by which the rest would be looked at"]
    named = {"KEY": KEY, "CHANNEL": CHANNEL}
    missing = []
    for command in COMMANDS[use].split(";"):
        name, *words = command.split()
        try:
            await client.command(KEY, name, *(named.get(word, word) for word in words))
        except Refused as refusal:
            if refusal.forbidden:
                missing.append(_what(name, refusal.text))
    await client.command(KEY, "DISCARD")
    return sorted(set(missing), key=missing.index)


def _what(name: str, text: str) -> str:
    if "channel" in text:
        return f"channels (&{PREFIX}*)"
    return f"keys (~{PREFIX}*)" if "key" in text else name

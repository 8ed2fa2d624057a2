"""A process that writes to a store: run as `writer.py LOCATION NAME COUNT [SYNCHRONOUS]`.

It appends COUNT messages to the session `s`, eight at a time, and writes each one's text, sequence
and revision to standard output as soon as it is acknowledged.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from recollect_server.memory.due import DuePolicy
from recollect_server.memory.model import NewMessage, Role, TextPart
from recollect_server.scope import Scope
from recollect_server.stores.sql.postgres import PostgresDatabase
from recollect_server.stores.sql.sessions import SqlSessionStore
from recollect_server.stores.sql.sqlite import SqliteDatabase

AT_ONCE = 8


async def main(location: str, name: str, count: int, synchronous: str = "FULL") -> None:
    database = (
        PostgresDatabase(location)
        if location.startswith("postgresql://")
        else SqliteDatabase(Path(location), synchronous)
    )
    sessions = SqlSessionStore(database, lambda: datetime.now(UTC), DuePolicy())

    async def one(number: int) -> None:
        text = f"{name}-{number:06}"
        done = await sessions.append_messages(
            Scope("acme", "ada"),
            "s",
            [NewMessage(Role.USER, (TextPart(text),))],
            request=None,
            expected_revision=None,
        )
        line = f"{text} {done.messages[0].sequence} {done.session_revision}\n"
        os.write(1, line.encode())

    for start in range(0, count, AT_ONCE):
        await asyncio.gather(*(one(n) for n in range(start, min(start + AT_ONCE, count))))
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))

"""A process that remembers one fact many times: run as `fact_writer.py LOCATION COUNT TEXT`.

It writes the fact's id once for each time to standard output.
"""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from tests.stores.sql.support import open_database

from recollect_server.memory.model import NewFact
from recollect_server.scope import Scope
from recollect_server.stores.sql.facts import SqlFactStore


async def main(location: str, count: int, text: str) -> None:
    database = open_database(location if "://" in location else Path(location))
    facts = SqlFactStore(database, lambda: datetime.now(UTC))

    async def one() -> str:
        done = await facts.remember(Scope("acme", "ada"), [NewFact(text)], None)
        return done.facts[0].fact_id

    for fact_id in await asyncio.gather(*(one() for _ in range(count))):
        os.write(1, f"{fact_id}\n".encode())
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))

"""What holds an erasure up is tried again, soon and by the same server."""

import asyncio
from pathlib import Path

from tests.stores.sql.support import ADA, Stores

from recollect_server.admin.erasing import Erasing
from recollect_server.admin.gate import Gate
from recollect_server.errors import Reason, Unavailable
from recollect_server.memory.audit import Caller
from recollect_server.parts import utc_now
from recollect_server.stores.sql.erasing import SqlErasures
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.sql.sqlite import SqliteDatabase
from recollect_server.stores.sql.users import being_erased


class _Read(SqliteDatabase):
    """A file whose log somebody reads the first two times that it shall be emptied."""

    times = 0

    async def compact(self, tables) -> None:
        self.times += 1
        if self.times <= 2:
            raise Unavailable(Reason.STORE_UNAVAILABLE, "the database's log is being read", 1.0)
        await super().compact(tables)


async def _nowhere_else() -> tuple[()]:
    return ()


async def test_a_file_that_cannot_be_cleaned_yet_is_cleaned_under_the_same_lease(tmp_path: Path):
    migrate(tmp_path / "recollect.db")
    database = _Read(tmp_path / "recollect.db")
    stores = Stores(database)
    await stores.session()
    erasing = Erasing(SqlErasures(database, utc_now), _nowhere_else, [], Gate(being_erased))
    running = asyncio.create_task(erasing.run())
    erasure = await erasing.erase(ADA, "", Caller("key", "EraseUser", "call"), None)
    assert erasure.complete
    assert database.times == 3
    assert await stores.rows("SELECT lease FROM erasures") == [(1,)]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await database.close()

"""Sessions of both kinds behind one face, on a real SQLite and a real Valkey."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.stores.sql.support import ADA, Stores, open_database
from tests.stores.valkey.setups import start_valkey
from tests.stores.valkey.valkey_server import client_of

from recollect_server.errors import NotFound
from recollect_server.memory.model import NewSession, Retention
from recollect_server.memory.sessions import Sessions
from recollect_server.parts import utc_now
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.valkey.ephemeral import ValkeySessions


@pytest.fixture
async def stores(tmp_path: Path) -> AsyncIterator[tuple[Stores, ValkeySessions]]:
    """The stores of durable and of ephemeral sessions."""
    migrate(tmp_path / "recollect.db")
    database = open_database(tmp_path / "recollect.db")
    valkey = start_valkey()
    try:
        async with client_of(valkey.url("valkey")) as client:
            yield Stores(database), ValkeySessions(client, utc_now)
    finally:
        valkey.close()
        await database.close()


async def test_calls_that_miss_an_ephemeral_session_at_once_are_all_told_so(stores) -> None:
    durable, ephemeral = stores
    sessions = Sessions(durable.sessions, ephemeral)
    await sessions.create_session(ADA, NewSession("s", retention=Retention.EPHEMERAL), None)
    assert (await sessions.get_session(ADA, "s")).session_id == "s"
    await ephemeral.delete_session(ADA, "s")
    found = await asyncio.gather(
        *(sessions.get_session(ADA, "s") for _ in range(8)), return_exceptions=True
    )
    assert [type(each) for each in found] == [NotFound] * 8

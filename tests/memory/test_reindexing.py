"""Which moves are started, on a real registry."""

from pathlib import Path

import pytest
from tests.stores.sql.support import Stores, open_database

from recollect_server.errors import InvalidArgument, PermissionDenied
from recollect_server.memory.reindexing import Reindexing
from recollect_server.memory.vector_store import VectorStoreState
from recollect_server.scope import Scope
from recollect_server.stores.sql.migrate import migrate
from recollect_server.stores.sql.vector_feeds import SETTLE_SECONDS, SqlVectorFeeds
from recollect_server.stores.vectors import VectorConnections


@pytest.fixture
async def parts(tmp_path: Path):
    file = tmp_path / "recollect.db"
    migrate(file)
    database = open_database(file)
    connections = VectorConnections(database, postgres=False)
    stores = Stores(database)
    yield stores, SqlVectorFeeds(database, stores.clock), connections
    await connections.close()
    await database.close()


def _reindexing(parts, model: str = "m", allowed: frozenset[str] | None = None) -> Reindexing:
    _, feeds, connections = parts
    return Reindexing(feeds, connections, model=model, dimensions=8, allowed=allowed)


async def _states(parts) -> list[tuple[str, str, VectorStoreState]]:
    return [(store.url, store.model, store.state) for store in await parts[1].stores()]


async def test_settings_are_obeyed_when_they_change_and_not_again(parts, tmp_path: Path):
    url = f"chroma://{tmp_path / 'c'}"
    reindexing = _reindexing(parts)
    await reindexing.obey("")
    await reindexing.obey("exact:")
    assert await _states(parts) == []
    await reindexing.obey(url)
    await reindexing.obey(url)
    assert await _states(parts) == [(url, "m", VectorStoreState.FILLING)]
    # Moved by hand since: the same settings do not move it back.
    await reindexing.reindex("exact:", None)
    await reindexing.obey(url)
    assert [state for _, _, state in await _states(parts)] == [
        VectorStoreState.RETIRED,
        VectorStoreState.FILLING,
    ]


async def test_another_embedding_model_fills_the_store_anew(parts, tmp_path: Path):
    url = f"chroma://{tmp_path / 'c'}"
    await _reindexing(parts).obey(url)
    (store,) = await parts[1].stores()
    assert not await parts[1].take_over(store)
    parts[0].clock.move(seconds=SETTLE_SECONDS)
    assert not await parts[1].take_over(store)  # everybody is looked at once more
    assert await parts[1].take_over(store)
    for _ in range(2):
        await _reindexing(parts, model="newer").obey(url)
    assert await _states(parts) == [
        (url, "m", VectorStoreState.ACTIVE),
        (url, "newer", VectorStoreState.FILLING),
    ]


async def test_with_keys_only_what_the_settings_name_is_allowed(parts, tmp_path: Path):
    reindexing = _reindexing(parts, allowed=frozenset({"exact:"}))
    with pytest.raises(PermissionDenied):
        await reindexing.reindex(f"chroma://{tmp_path / 'c'}", None)
    assert await reindexing.reindex("exact:", None)


async def test_a_user_is_filled_only_in_a_store_that_is_fed(parts):
    with pytest.raises(InvalidArgument):
        await _reindexing(parts).reindex("", Scope("acme", "ada"))
    with pytest.raises(InvalidArgument):
        await _reindexing(parts).reindex("exact:", Scope("acme", "ada"))

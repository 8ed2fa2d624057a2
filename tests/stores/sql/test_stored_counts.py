"""What is stored of users and tenants, on both databases."""

import pytest
from tests.stores.sql.support import ADA

from recollect_server.admin.limits import STORED, Limit
from recollect_server.memory.model import NewFact
from recollect_server.scope import Scope
from recollect_server.stores.sql.stored_counts import SqlStoredCounts

BOB, OTHER = Scope("acme", "bob"), Scope("umbrella", "ada")


@pytest.fixture
async def counts(stores):
    for scope in (ADA, BOB, OTHER):
        await stores.session(scope=scope)
    await stores.append("one", "two", "three")
    await stores.append("four", scope=BOB)
    await stores.facts.remember(ADA, [NewFact("Likes tea."), NewFact("Likes jam.")], None)
    return SqlStoredCounts(stores.database)


async def test_a_users_and_a_tenants_things_are_counted(counts):
    whole = Scope("acme", "")
    assert [await counts.count(ADA, limit) for limit in STORED] == [3, 2]
    assert [await counts.count(BOB, limit) for limit in STORED] == [1, 0]
    assert [await counts.count(whole, limit) for limit in STORED] == [4, 2]
    assert [await counts.count(OTHER, limit) for limit in STORED] == [0, 0]
    assert await counts.count(Scope("acme", "nobody"), Limit.STORED_FACTS) == 0


async def test_the_count_is_that_of_the_rows_also_when_some_are_gone(counts, stores):
    await stores.session("t")
    await stores.append("five", "six", session_id="t")
    assert await counts.count(ADA, Limit.STORED_MESSAGES) == 5
    await stores.sessions.delete_session(ADA, "s", None)
    ((rows,),) = await stores.rows(
        "SELECT COUNT(*) FROM messages m JOIN users u ON u.user_key = m.user_key "
        "WHERE u.tenant = 'acme' AND u.user_id = 'ada'"
    )
    assert await counts.count(ADA, Limit.STORED_MESSAGES) == rows == 2

"""API keys, on both databases."""

from datetime import timedelta

import pytest

from recollect_server.admin.keys import REVOCATION_SECONDS, ApiKeys
from recollect_server.admin.model import Grants, KeyRole
from recollect_server.errors import InvalidArgument, NotFound, Unauthenticated
from recollect_server.scope import RequestKey

WRITER = Grants(KeyRole.WRITER)


@pytest.fixture
def keys(stores):
    return ApiKeys(stores.keys, stores.clock)


@pytest.fixture
def elsewhere(other):
    """The same keys in another process."""
    return ApiKeys(other.keys, other.clock)


async def _only(keys, tenant="acme"):
    (found,) = await keys.list(tenant, limit=10, after=None)
    return found


async def test_roles_on_services_are_kept(keys):
    grants = Grants.parse("reader cache=writer admin=none")
    created = await keys.create("acme", name="k", grants=grants)
    assert (await keys.authenticate(created.token)).grants == grants
    assert (await _only(keys)).grants == grants


async def test_a_key_that_allows_nothing_or_lets_one_user_administer_is_refused(keys):
    for grants, user_id, field in (
        (Grants(), "", "role"),
        (Grants.parse("cache=none"), "", "role"),
        (Grants.parse("admin"), "ada", "user_id"),
        (Grants.parse("reader admin=admin"), "ada", "user_id"),
    ):
        with pytest.raises(InvalidArgument, match=field):
            await keys.create("acme", name="k", user_id=user_id, grants=grants)
    assert not await keys.list("acme", limit=10, after=None)


async def test_a_secret_is_not_stored(keys, stores):
    created = await keys.create("acme", name="k", grants=WRITER)
    secret = created.token.split("_", 2)[2]
    (row,) = await stores.rows("SELECT * FROM api_keys")
    assert secret not in str(row)
    assert secret.encode() not in b"".join(bytes(v) for v in row if isinstance(v, bytes))


async def test_a_replaced_key_works_on_until_the_overlap_is_over(keys, stores):
    old = await keys.create("acme", name="k", user_id="ada", grants=WRITER)
    new = await keys.rotate("acme", old.key.key_id, overlap=timedelta(hours=1))
    assert (new.key.name, new.key.user_id, new.key.grants) == ("k", "ada", WRITER)
    stores.clock.move(minutes=59)
    await keys.authenticate(old.token)
    stores.clock.move(minutes=1)
    with pytest.raises(Unauthenticated):
        await keys.authenticate(old.token)
    assert (await keys.authenticate(new.token)).expire_time is None


async def test_a_repeated_replacement_makes_one_key_whose_last_secret_is_valid(keys, stores):
    old = await keys.create("acme", name="k", grants=WRITER)
    request = RequestKey("CreateApiKey", "r", b"digest")
    until = stores.clock() + timedelta(hours=1)
    first, again = [
        await keys.rotate("acme", old.key.key_id, overlap=timedelta(hours=1), request=request)
        for _ in range(2)
    ]
    assert first.key.key_id == again.key.key_id
    await keys.authenticate(again.token)
    with pytest.raises(Unauthenticated):
        await keys.authenticate(first.token)
    found = {k.key_id: k for k in await keys.list("acme", limit=10, after=None)}
    assert len(found) == 2
    assert found[old.key.key_id].expire_time == until


async def test_a_replacement_never_prolongs_a_key(keys, stores):
    soon = stores.clock() + timedelta(minutes=5)
    old = await keys.create("acme", name="k", grants=WRITER, expire_time=soon)
    await keys.rotate("acme", old.key.key_id)
    found = {k.key_id: k for k in await keys.list("acme", limit=10, after=None)}
    assert found[old.key.key_id].expire_time == soon


async def test_a_key_of_another_tenant_or_that_is_over_is_not_replaced(keys):
    old = await keys.create("acme", name="k", grants=WRITER)
    with pytest.raises(NotFound):
        await keys.rotate("other", old.key.key_id)
    await keys.revoke("acme", old.key.key_id)
    with pytest.raises(InvalidArgument, match="replaces"):
        await keys.rotate("acme", old.key.key_id)
    assert (await _only(keys)).key_id == old.key.key_id


async def test_another_process_refuses_a_revoked_key_within_seconds(keys, elsewhere, stores):
    created = await keys.create("acme", name="k", grants=WRITER)
    await elsewhere.authenticate(created.token)
    assert elsewhere.recent(created.token)
    await keys.revoke("acme", created.key.key_id)
    assert keys.recent(created.token) is None
    stores.clock.move(seconds=REVOCATION_SECONDS)
    assert elsewhere.recent(created.token) is None
    with pytest.raises(Unauthenticated):
        await elsewhere.authenticate(created.token)


async def test_a_recent_key_is_refused_with_another_secret_and_when_it_expires(keys, stores):
    soon = stores.clock() + timedelta(seconds=1)
    created = await keys.create("acme", name="k", grants=WRITER, expire_time=soon)
    assert keys.recent(created.token) is None
    await keys.authenticate(created.token)
    assert keys.recent(created.token) is not None
    forged = created.token[:-1] + ("A" if created.token[-1] != "A" else "B")
    assert keys.recent(forged) is None
    stores.clock.move(seconds=1)
    assert keys.recent(created.token) is None


async def test_last_use_is_written_in_batches_and_never_goes_back(keys, elsewhere, stores):
    created = await keys.create("acme", name="k", grants=WRITER)
    await keys.authenticate(created.token)
    first = stores.clock()
    assert (await _only(keys)).last_use_time is None
    stores.clock.move(seconds=3)
    await elsewhere.authenticate(created.token)
    await elsewhere.flush()
    await keys.flush()
    assert (await _only(keys)).last_use_time == first + timedelta(seconds=3)

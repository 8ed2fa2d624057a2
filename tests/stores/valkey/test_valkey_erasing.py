"""Erasing a user from servers and clusters: all of theirs, nothing of others, without a list."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace
from tests.stores.valkey.answer_makers import DIMENSIONS, Clock, answer_of, unit
from tests.stores.valkey.valkey_server import Server, client_of, free_port

from recollect_server.admin.erasure import UserData
from recollect_server.cache.model import CacheScope
from recollect_server.errors import Unavailable
from recollect_server.memory.model import NewMessage, NewSession, Retention, Role, TextPart
from recollect_server.memory.ports import Window
from recollect_server.scope import RequestKey, Scope
from recollect_server.stores.valkey.answers import Limits, ValkeyAnswers
from recollect_server.stores.valkey.connect import Client, connect
from recollect_server.stores.valkey.ephemeral import ValkeySessions
from recollect_server.stores.valkey.erasing import ValkeyAnswerData, ValkeySessionData
from recollect_server.stores.valkey.keys import entry_key
from recollect_server.stores.valkey.register import keys_of, tag_of
from recollect_server.stores.valkey.window import ValkeyWindowCache
from recollect_server.stores.valkey_search import BestIndex

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _others(scope: Scope) -> list[Scope]:
    """Users whose names are near."""
    return [
        Scope(scope.tenant, f"{scope.user_id}x"),
        Scope(scope.tenant, scope.user_id[:-1]),
        Scope(f"{scope.tenant}x", scope.user_id),
    ]


async def _sessions(client: Client, scope: Scope) -> None:
    """Store 20 windows and 5 ephemeral sessions."""
    windows = ValkeyWindowCache(client)
    for number in range(20):
        await windows.put(scope, f"s{number}", Window(NOW, 1, ()), 60)
    sessions = ValkeySessions(client, lambda: datetime.now(UTC))
    for number in range(5):
        new = NewSession(f"e{number}", retention=Retention.EPHEMERAL)
        await sessions.create_session(scope, new, None)
        await sessions.append_messages(
            scope,
            f"e{number}",
            [NewMessage(Role.USER, (TextPart("hello"),))],
            request=RequestKey("AppendMessages", "r", b"\x01"),
            expected_revision=None,
        )


async def _check_only(data: UserData, scope: Scope, others: list[Scope], count: int) -> None:
    """Erase a user, who has `count` things, as each of the others has."""
    assert [await data.count(each) for each in (scope, *others)] == [count] * 4
    assert await data.erase(scope) >= count
    assert [await data.count(each) for each in (scope, *others)] == [0, count, count, count]
    assert await data.erase(scope) == 0


async def test_windows_and_ephemeral_sessions_of_one_user_go(client: Client, scope: Scope) -> None:
    others = _others(scope)
    for each in (scope, *others):
        await _sessions(client, each)
    # An ephemeral session has a hash, a list and a request.
    await _check_only(ValkeySessionData(client), scope, others, 20 + 5 * 3)


@pytest.fixture
def store(client: Client) -> ValkeyAnswers:
    index = BestIndex(client, client, DIMENSIONS, 1 << 20)
    return ValkeyAnswers(client, client, index, limits=Limits(), clock=Clock())


async def test_answers_go_with_their_register(
    client: Client, store: ValkeyAnswers, scope: Scope
) -> None:
    others = _others(scope)
    for position, each in enumerate((scope, *others)):
        for number in range(100 * position, 100 * position + 30):
            await store.put(each, answer_of(each, number, unit(1, number), tags=("t",)))
    data = ValkeyAnswerData(client)
    before = [await data.count(each) for each in (scope, *others)]
    assert min(before) > 30
    assert await data.erase(scope) == 30
    assert [await data.count(each) for each in (scope, *others)] == [0, *before[1:]]
    assert await data.erase(scope) == 0


async def test_answers_for_everybody_go_with_who_asked(
    client: Client, store: ValkeyAnswers, scope: Scope
) -> None:
    everyone = Scope(scope.tenant, "")
    data = ValkeyAnswerData(client)
    for number in range(40):
        asker = scope.user_id if number % 2 else "somebody"
        answer = answer_of(everyone, number, unit(1, number), scope=CacheScope.GLOBAL)
        await store.put(everyone, replace(answer, author=asker))
    partition = answer_of(everyone, 0, scope=CacheScope.GLOBAL).entry.partition(scope.tenant)
    assert await data.count(scope) == 20
    assert await data.erase(scope) == 20
    assert await data.count(scope) == 0
    assert (await store.size(partition))[0] == 20
    assert await data.count(Scope(scope.tenant, "somebody")) == 20


async def test_an_answer_that_no_register_knows_is_found(
    client: Client, store: ValkeyAnswers, scope: Scope
) -> None:
    answer = answer_of(scope, 1, unit(1))
    await store.put(scope, answer)
    await client.delete(*keys_of(tag_of(scope, answer.entry.entry_id)))
    data = ValkeyAnswerData(client)
    assert await data.count(scope) == 1
    assert await data.erase(scope) == 1
    assert await store.get(scope.tenant, answer.entry.entry_id) is None


async def test_keys_of_another_kind_are_passed_over(client: Client, scope: Scope) -> None:
    key = entry_key(scope.tenant, "0f" * 32)
    await client.command(key, "SET", key, "no hash")
    assert await ValkeyAnswerData(client).count(scope) == 0
    await client.delete(key)


async def test_a_server_that_is_down_has_not_been_searched() -> None:
    client = connect(f"valkey://127.0.0.1:{free_port()}", command_timeout=1)
    for data in (ValkeySessionData(client), ValkeyAnswerData(client)):
        with pytest.raises(Unavailable):
            await data.erase(Scope("t", "ada"))
        with pytest.raises(Unavailable):
            await data.count(Scope("t", "ada"))
    await client.close()


async def test_a_server_that_forbids_to_look_has_not_been_searched(scope: Scope) -> None:
    server = Server()
    server.start()
    try:
        async with client_of(server.url("valkey")) as client:
            await client.command(None, "HSET", entry_key(scope.tenant, "e"), "o", "x")
            server.admin.execute_command("ACL", "SETUSER", "default", "-hget")
            for act in (ValkeyAnswerData(client).erase, ValkeyAnswerData(client).count):
                with pytest.raises(Unavailable):
                    await act(scope)
    finally:
        server.kill()
        server.close()

"""Notices of changes between processes, on real servers by every library and transport."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tests.stores.valkey.setups import AnyServer

from recollect_server.scope import Scope
from recollect_server.stores.valkey.notices import ValkeyNotices

OTHER = Scope("t", "other")


@asynccontextmanager
async def _running(url: str, count: int = 2) -> AsyncIterator[list[ValkeyNotices]]:
    """Notices of some processes, as they run."""
    made = [ValkeyNotices(url) for _ in range(count)]
    tasks = [asyncio.create_task(one.run()) for one in made]
    yield made
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def _heard(listener: ValkeyNotices, speaker: ValkeyNotices, scope: Scope) -> None:
    """Speak until it is heard: a notice may get lost, as while nobody listens yet."""
    ear = listener.subscribe(scope)
    async with asyncio.timeout(20):
        while not ear.heard.is_set():
            speaker.notify(scope)
            await asyncio.sleep(0.05)
    ear.close()


async def test_a_change_in_one_process_wakes_watchers_of_that_user_in_another(
    shared_server: AnyServer, scheme: str, scope: Scope
) -> None:
    async with _running(shared_server.url(scheme)) as (one, two):
        stranger = two.subscribe(OTHER)
        await _heard(two, one, scope)
        await _heard(one, two, scope)
        assert not stranger.heard.is_set()
        stranger.close()


async def test_a_change_wakes_all_watchers_of_its_own_process_at_once_and_once(
    shared_server: AnyServer, scheme: str, scope: Scope
) -> None:
    notices = ValkeyNotices(shared_server.url(scheme))
    ears = [notices.subscribe(scope) for _ in range(3)]
    notices.notify(scope)
    assert all(ear.heard.is_set() for ear in ears)
    for ear in ears:
        await ear.wait(60)
        assert not ear.heard.is_set()
        ear.close()
    assert not notices._ears


async def test_notices_are_heard_again_when_the_server_is_back(
    make_server: Callable[..., AnyServer], scheme: str, scope: Scope
) -> None:
    server = make_server()
    async with _running(server.url(scheme)) as (one, two):
        await _heard(two, one, scope)
        server.kill()
        local = one.subscribe(scope)
        one.notify(scope)
        assert local.heard.is_set()
        server.start()
        await _heard(two, one, scope)
        local.close()


async def test_a_wait_ends_without_a_notice(
    shared_server: AnyServer, scheme: str, scope: Scope
) -> None:
    notices = ValkeyNotices(shared_server.url(scheme))
    ear = notices.subscribe(scope)
    await ear.wait(0.01)
    ear.close()

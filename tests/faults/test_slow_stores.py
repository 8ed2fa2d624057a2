"""The way to PostgreSQL and Valkey takes 200 ms: calls take longer, and none fails or is lost."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

import pytest
from tests.faults.link import Link, through
from tests.harness import RunningServer, eventually, unique
from tests.postgres_server import PostgresServer
from tests.stores.valkey.valkey_server import Server as Valkey

from recollect.v1 import cache_pb2, common_pb2, memory_pb2

DELAY = 0.2
ROUND_TRIPS = 20
"""More than any of these calls makes one after the other; a busy machine makes some wait longer."""

BUFFER = memory_pb2.ContextOptions(profile=memory_pb2.CONTEXT_PROFILE_BUFFER)


@dataclass
class Slow:
    """A server whose way to its stores can be made slow."""

    server: RunningServer
    links: tuple[Link, ...]

    def delay(self, seconds: float) -> None:
        for link in self.links:
            link.delay = seconds


@pytest.fixture
def slow(postgres: PostgresServer) -> Iterator[Slow]:
    with ExitStack() as stack:
        valkey = Valkey()
        stack.callback(valkey.close)
        valkey.start()
        to_valkey = stack.enter_context(Link(valkey.port))
        to_postgres = stack.enter_context(Link(postgres.folder / ".s.PGSQL.5432"))
        environment = {
            "DATABASE_URL": through(postgres.create("recollect"), to_postgres),
            "VALKEY_URL": f"valkey://127.0.0.1:{to_valkey.port}",
            "RECOLLECT_CACHE_TIMEOUT": "0.1",
        }
        server = stack.enter_context(RunningServer(environment=environment))
        yield Slow(server, (to_valkey, to_postgres))


def _prompt(text: str) -> common_pb2.Prompt:
    parts = [common_pb2.ContentPart(text=text)]
    message = common_pb2.PromptMessage(role=common_pb2.ROLE_USER, parts=parts)
    return common_pb2.Prompt(model="m", messages=[message])


def test_200_ms_to_the_stores_slow_calls_down_and_fail_none(slow: Slow):
    durations: list[float] = []

    def timed(call: Callable[[], object]) -> None:
        began = time.monotonic()
        call()
        durations.append(time.monotonic() - began)

    with slow.server.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        question = _prompt("How many swans?")
        client.cache.store(question, "twelve")
        assert client.cache.lookup(question).hit
        slow.delay(DELAY)
        written = [f"{number} swans" for number in range(10)]
        for text in written:
            timed(lambda text=text: client.memory.append_messages(session, [text]))
            timed(lambda: client.memory.get_context(session, options=BUFFER))
        assert min(durations) > DELAY
        assert median(durations) < ROUND_TRIPS * DELAY
        fact = client.memory.remember(["Saw a heron"])
        found = client.memory.recall("heron", min_revision=fact.user_revision, timeout=60)
        assert found.hits[0].fact.text == "Saw a heron"
        # Asking the model again takes less than waiting for an answer that is kept.
        missed = client.cache.lookup(question)
        assert (missed.hit, missed.miss_reason) == (False, cache_pb2.MISS_REASON_DEGRADED)
        slow.delay(0.0)
        eventually(lambda: client.cache.lookup(question).hit)
        listed = [m.parts[0].text for m in client.memory.list_messages(session)]
        assert listed == written
        assert "Traceback" not in slow.server.log, slow.server.log

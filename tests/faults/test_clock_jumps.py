"""A server's clock jumps by hours: nothing is lost, made twice or put off until it is there."""

import os
import shutil
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.e2e.deployments import database_url
from tests.faults.deployment import ENVIRONMENT, RECENT, Worker
from tests.harness import ROOT, RunningServer, eventually, unique
from tests.postgres_server import PostgresServer

from recollect import Recollect
from recollect.v1 import chat_pb2, common_pb2

FETCHED = ROOT / ".tools" / "debian"
SECONDS = 90.0
JUMPS = ("+5h", "-5h")


def _library() -> Path:
    """Return the library that fakes the time, or skip; in CI it must be there."""
    found = [*FETCHED.glob("usr/lib/*/faketime/libfaketimeMT.so.1")]
    if not found:
        if os.environ.get("CI") == "true":
            pytest.fail("`make tools` must fetch libfaketime in CI")
        pytest.skip("needs libfaketime: `make tools` with apt-get")
    return found[0]


class Clock:
    """The time of the processes that have its environment: the system's and an offset."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")
        self.environment = ENVIRONMENT | {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            # A clock that is set does not change how long things take.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, offset: str) -> None:
        """Jump; as in `+5h`."""
        fresh = self._file.with_suffix(".new")
        fresh.write_text(offset)
        fresh.replace(self._file)


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path)


@pytest.fixture(params=["sqlite", "postgres"])
def environment(
    request: pytest.FixtureRequest, clock: Clock, tmp_path: Path, postgres: PostgresServer
) -> dict[str, str]:
    """Of processes that see the clock."""
    return clock.environment | {"DATABASE_URL": database_url(request.param, tmp_path, postgres)}


@dataclass
class Life:
    """What one user does before and after each jump, and was told."""

    client: Recollect
    session: str = ""
    told: list[tuple[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    def append(self, request_id: str, text: str) -> None:
        stored = self.client.memory.append_messages(self.session, [text], request_id=request_id)
        self.told.append((request_id, stored.messages[0].message_id))
        self.ids.append(stored.messages[0].message_id)

    def live(self, when: str) -> None:
        """Use everything once."""
        memory = self.client.memory
        self.session = memory.create_session().session_id
        for number in range(4 * RECENT):
            self.append(str(uuid.uuid4()), f"At {when} there were {number} swans.")
        fact = memory.remember([f"Saw a heron at {when}"])
        assert memory.recall("heron", min_revision=fact.user_revision, timeout=SECONDS).hits
        changed = memory.update_fact(fact.facts[0].fact_id, text=f"Saw two herons at {when}")
        self.ids += [self.session, changed.fact_id]
        turn = self.client.chat.send(self.session, f"And now, at {when}?")
        assert turn.state == chat_pb2.TURN_STATE_DONE
        self.ids.append(turn.turn_id)
        prompt = _prompt(f"How many swans were there at {when}?")
        self.client.cache.store(prompt, "twelve")
        assert self.client.cache.lookup(prompt).hit
        eventually(lambda: _is_done(self.client, self.session), SECONDS)

    def repeat(self) -> None:
        """Send every append again: each must be known."""
        again = Life(self.client, self.session)
        for number, (request_id, message_id) in enumerate(self.told):
            again.append(request_id, f"At the start there were {number} swans.")
            assert again.ids[-1] == message_id

    def listed(self) -> list[str]:
        return [m.message_id for m in self.client.memory.list_messages(self.session)]


def test_hours_ahead_and_back_nothing_is_lost_or_made_twice_or_stands_still(environment, clock):
    with (
        RunningServer(environment=environment) as server,
        server.client(unique("ada")) as client,
    ):
        first = Life(client)
        first.live("the start")
        lives = [first]
        for offset in JUMPS:
            clock.set(offset)
            life = Life(client)
            life.live(offset)
            lives.append(life)
            first.repeat()
        ids = [name for life in lives for name in life.ids]
        assert len(set(ids)) == len(ids)
        for life in lives:
            messages = [message_id for _, message_id in life.told]
            assert life.listed()[: len(messages)] == messages
            assert client.memory.append_messages(life.session, ["Still here."]).messages
        assert "Traceback" not in server.log, server.log
        assert server.stop() == 0


def test_what_a_clock_ahead_put_off_is_done_once_it_is_right(environment, clock):
    with (
        RunningServer("--no-worker", environment=environment) as server,
        server.client(unique("ada")) as client,
    ):
        clock.set("+5h")
        session = client.memory.create_session().session_id
        for number in range(4 * RECENT):
            client.memory.append_messages(session, [f"There were {number} swans."])
        waiting = [*client.admin.list_jobs()]
        assert waiting
        clock.set("+0")
        worker = Worker(server.data_dir, environment)
        try:
            worker.start()
            eventually(lambda: _is_done(client, session), SECONDS)
            assert worker.stop() == 0
        finally:
            if worker.process is not None and worker.process.poll() is None:
                worker.kill()
            shutil.rmtree(worker.folder)


def _is_done(client: Recollect, session: str) -> bool:
    found = client.memory.get_session(session)
    return found.HasField("summary") and not [*client.admin.list_jobs()]


def _prompt(text: str) -> common_pb2.Prompt:
    parts = [common_pb2.ContentPart(text=text)]
    message = common_pb2.PromptMessage(role=common_pb2.ROLE_USER, parts=parts)
    return common_pb2.Prompt(model="m", messages=[message])

"""Data of old servers under the newest: it is taken over, and every answer is as it was.

`data/` holds what servers of older source trees left behind when they were killed; `keep_data.py`
makes it. `schema-0001` is of the first schema and the first form of what is in Valkey; `0.1` is of
the first contract that is promised, on SQLite and PostgreSQL.
"""

import base64
import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.compatibility.life import MESSAGES, SECONDS, TRAVEL, USER, seen, text
from tests.compatibility.stub import Stub, present_contract, read_contract
from tests.harness import RunningServer, clean_environment, eventually
from tests.postgres_server import PostgresServer
from tests.stores.valkey.valkey_server import Server as Valkey

from recollect_server.stores.sql.migrate import needs_migration

DATA = Path(__file__).parent / "data"
KEPT = [
    ("schema-0001", "recollect.db.gz", "said.json"),
    ("0.1", "recollect.db.gz", "said.json"),
    ("0.1", "postgres.sql.gz", "said-postgres.json"),
]


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    running = Valkey()
    running.start()
    yield running
    running.close()


@pytest.fixture(params=KEPT, ids=lambda kept: f"{kept[0]}-{kept[1].partition('.')[0]}")
def kept(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """A version, its database's file, and what its server said."""
    return request.param


@pytest.fixture
def database(kept, tmp_path: Path, postgres: PostgresServer) -> str:
    """The URL of a database with an old server's data."""
    version, file, _ = kept
    data = gzip.decompress((DATA / version / file).read_bytes())
    if file == "recollect.db.gz":
        (tmp_path / "recollect.db").write_bytes(data)
        assert needs_migration(tmp_path / "recollect.db")
        return f"sqlite:///{tmp_path / 'recollect.db'}"
    url = postgres.create()
    command = [postgres.programs / "psql", "--quiet", "--set", "ON_ERROR_STOP=1", url]
    done = subprocess.run(
        command, input=data, capture_output=True, check=False, env=clean_environment()
    )
    assert done.returncode == 0, done.stderr.decode()
    assert needs_migration(url)
    return url


@pytest.fixture
def server(kept, database: str, valkey: Valkey, tmp_path: Path) -> Iterator[RunningServer]:
    """The newest server on an old one's data, and on what that one left in Valkey."""
    left = json.loads((DATA / kept[0] / "valkey.json").read_text())
    for key, value in left.items():
        valkey.admin.restore(base64.b64decode(key), 0, base64.b64decode(value))
    assert left
    environment = {"DATABASE_URL": database, "VALKEY_URL": valkey.url("valkey")}
    if database.startswith("postgresql"):
        subprocess.run(
            [sys.executable, "-m", "recollect_server", "migrate"],
            check=True,
            env=clean_environment(**environment),
        )
    with RunningServer(environment=environment) as running:
        yield running


def _stubs(channel: grpc.Channel, version: str) -> Iterator[Stub]:
    """Yield the present contract's stub, and the version's own if its contract is promised."""
    yield Stub(present_contract(), channel)
    contract = Path(__file__).parent / f"contract-{version}.binpb"
    if contract.exists():
        yield Stub(read_contract(contract), channel)


def test_the_newest_server_takes_over_and_answers_the_same(server, kept):
    version, _, said = kept
    expected = json.loads((DATA / version / said).read_text())
    with grpc.insecure_channel(server.address) as channel:
        for stub in _stubs(channel, version):
            assert seen(stub) == expected
        _goes_on(Stub(present_contract(), channel), expected)
    assert "Traceback" not in server.log, server.log
    assert server.stop() == 0


def _goes_on(stub: Stub, expected: dict[str, Any]) -> None:
    """Use what was taken over: numbers go on, what was said is found, the work gets done."""
    last = int(expected["sessions"]["travel"]["last_sequence"])
    assert last == MESSAGES + 2
    more = [text("USER", "Is there a museum near the castle?")]
    stored = stub.call("MemoryService", "AppendMessages", **TRAVEL, messages=more)
    assert stored["messages"][0]["sequence"] == str(last + 1)
    context = stub.call("MemoryService", "GetContext", **TRAVEL)
    assert context["messages"][-1]["parts"] == more[0]["parts"]
    turn = stub.call("ChatService", "Chat", **TRAVEL, message=text("USER", "Which stop?"))["turn"]
    assert turn["state"] == "TURN_STATE_DONE"
    fact = {"text": "Keeps three herons"}
    changed = USER | {"fact_id": "herons", "fact": fact, "update_mask": "text"}
    stub.call("MemoryService", "UpdateFact", **changed)
    history = stub.call("MemoryService", "GetFactHistory", **USER, fact_id="herons")
    texts = {fact["text"] for versions in history.values() for fact in versions}
    assert texts == {"Keeps two herons", "Keeps three herons"}
    prompt = {"model": "m", "messages": [text("USER", "What is the capital of Portugal?")]}
    stub.call("CacheService", "Store", **USER, prompt=prompt, answer=[{"text": "Lisbon, still."}])
    found = stub.call("CacheService", "Lookup", **USER, prompt=prompt)
    assert found["entry"]["answer"] == [{"text": "Lisbon, still."}]

    def recalled() -> bool:
        hits = stub.call("MemoryService", "Recall", **USER, query="Where was I born?")
        return "Was born in Porto" in str(hits) and not hits.get("degradations")

    eventually(recalled, SECONDS)

    def idle() -> bool:
        jobs = stub.call("AdminService", "ListJobs").get("jobs", [])
        assert not [job for job in jobs if job["state"] == "JOB_STATE_DEAD"]
        return not jobs

    eventually(idle, SECONDS)

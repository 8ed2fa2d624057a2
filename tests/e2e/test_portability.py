"""ExportUser and ImportUser: a user moves to another server, whole or not at all."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.e2e.planted import Planted, erased
from tests.harness import RunningServer, clean_environment, eventually, unique

from recollect import errors, tool_result
from recollect.v1 import common_pb2, memory_pb2

OTHERWISE = {"time", "user_id"}
"""Fields of the first record that say of which export it is."""


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def here(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    flags = []
    if request.param == "postgres":
        flags = ["--database-url", request.getfixturevalue("postgres").create("recollect")]
    more = {"RECOLLECT_ALLOW_GLOBAL_CACHE": "true", "RECOLLECT_EPISODE_IDLE_SECONDS": "1"}
    with RunningServer(*flags, environment=more) as running:
        yield running


@pytest.fixture(scope="module")
def there() -> Iterator[RunningServer]:
    with RunningServer() as running:
        yield running


@pytest.fixture(scope="module")
def ada(here: RunningServer) -> Planted:
    """One whose every text is embedded, and whose session became an episode."""
    planted = Planted("ada")
    planted.plant(here)
    with here.client(planted.user, timeout=60) as client:
        parts = [
            common_pb2.ContentPart(
                tool_call=common_pb2.ToolCall(call_id="c", name="n", input_json='{"a": "ü\\u2028"}')
            )
        ]
        session = f"s-{planted.mark}"
        call = memory_pb2.NewMessage(role=common_pb2.ROLE_ASSISTANT, parts=parts)
        client.memory.append_messages(session, [call, 'a line\u2028break\r\nand "quotes" \\ é😀'])
        last = client.memory.get_session(session).message_count

        def told() -> bool:
            return any(e.last_sequence == last for e in client.memory.list_episodes())

        eventually(told, 60)
    _settled(here, planted.user)
    return planted


def _export(server: RunningServer, user: str, *, vectors: bool = False) -> list[str]:
    with server.client(timeout=60) as client:
        return list(client.admin.export_user(user, include_vectors=vectors))


def _import(server: RunningServer, user: str, records: list[str]) -> int:
    with server.client(timeout=60) as client:
        return client.admin.import_user(user, records)


def _settled(server: RunningServer, user: str) -> None:
    """Wait until every text has its vector."""
    with server.client(user, timeout=60) as client:
        eventually(lambda: not [job for job in client.admin.list_jobs() if job.user_id == user], 60)


@pytest.mark.parametrize("vectors", [True, False])
def test_an_export_of_an_import_is_equal_byte_for_byte(here, there, ada, vectors):
    records = _export(here, ada.user, vectors=vectors)
    name = unique("copy")
    assert _import(there, name, records) == len(records)
    _settled(there, name)
    again = _export(there, name, vectors=vectors)
    assert again[1:] == records[1:]
    first, second = json.loads(records[0]), json.loads(again[0])
    assert {key for key in first if first[key] != second[key]} <= OTHERWISE
    kinds = {json.loads(record)["type"] for record in records}
    assert kinds == {"export", "session", "message", "episode", "fact", "end"}
    has = [json.loads(r)["vector"] is not None for r in records if '"fact"' in r[:20]]
    assert any(has) == vectors


def test_every_call_finds_the_same_there(here, there, ada):
    _import(there, ada.user, _export(here, ada.user, vectors=True))
    session = f"s-{ada.mark}"
    with here.client(ada.user) as old, there.client(ada.user) as new:
        for call in (
            lambda client: list(client.memory.list_sessions()),
            lambda client: list(client.memory.list_messages(session)),
            lambda client: list(client.memory.list_facts(include_closed=True)),
            lambda client: list(client.memory.get_fact_history(f"f0-{ada.mark}")),
            lambda client: list(client.memory.list_episodes()),
            lambda client: [hit.score for hit in client.memory.recall(ada.text("fact 2")).hits],
        ):
            assert call(new) == call(old)
        before = new.memory.get_session(session).revision
        appended = new.memory.append_messages(session, ["and on"])
        assert appended.session_revision == before + 1
        hits = new.memory.recall("and on", min_revision=appended.user_revision, timeout=30).hits
        assert hits[0].turn.parts[0].text == "and on"


def test_what_tools_answered_is_found_by_meaning_there_too(here, there):
    user = unique("ada")
    with here.client(user) as one:
        session = one.memory.create_session().session_id
        one.memory.append_messages(session, [tool_result("c", "The cat sleeps on the carpet.")])
    _import(there, user, _export(here, user))
    with there.client(user) as client:
        hits = eventually(lambda: client.memory.recall("kittens napping").hits)
    assert [hit.turn.parts[0].tool_result.call_id for hit in hits] == ["c"]


def test_a_user_with_data_is_not_imported_over(here, there, ada):
    name = unique("copy")
    records = _export(here, ada.user)
    _import(there, name, records)
    with pytest.raises(errors.AlreadyExists) as refused:
        _import(there, name, records)
    assert refused.value.reason == "USER_EXISTS"
    erased(there, name)
    assert _import(there, name, records) == len(records)


def _without(records: list[str], kind: str) -> list[str]:
    return [record for record in records if json.loads(record)["type"] != kind]


def _with(records: list[str], which: str, **fields: object) -> list[str]:
    position = [json.loads(record)["type"] for record in records].index(which)
    changed = json.dumps(json.loads(records[position]) | fields)
    return [*records[:position], changed, *records[position + 1 :]]


def test_what_does_not_fit_is_refused_and_leaves_nothing(here, there, ada):
    records = _export(here, ada.user)
    broken = {
        "cut": records[:-1],
        "empty": records[:0],
        "no beginning": records[1:],
        "twice": [*records[:-1], records[1], records[-1]],
        "no session": _without(records, "session"),
        "after the end": [*records, records[-1]],
        "one lost": [*records[:3], *records[4:]],
        "no JSON": [records[0], "{"],
        "another thing": [records[0], '{"type":"thing"}'],
        "other version": _with(records, "export", version=2),
        "other role": _with(records, "message", role="king"),
        "no number": _with(records, "message", sequence="1"),
        "further field": _with(records, "message", mood="good"),
        "far number": _with(records, "message", sequence=10**6),
        "other part": _with(records, "message", parts=[{"picture": "x"}]),
        "NUL": _with(records, "fact", fact_id="a\0b"),
        "other kind": _with(records, "fact", kind="rumour"),
    }
    for what, lines in broken.items():
        name = unique("copy")
        with pytest.raises(errors.InvalidArgument) as refused:
            _import(there, name, lines)
        field = "user_id" if what == "empty" else "record_json"
        assert refused.value.field_violations[0][0] == field, what
        assert ada.mark not in str(refused.value)
        with pytest.raises(errors.NotFound):
            _export(there, name)
        assert _import(there, name, records) == len(records), what


def test_an_unknown_user_is_not_found(here):
    with pytest.raises(errors.NotFound) as refused:
        _export(here, unique("nobody"))
    assert refused.value.reason == "USER_NOT_FOUND"


def test_what_a_killed_server_was_importing_is_not_there_and_can_be_imported(here, ada):
    records = _export(here, ada.user)
    name = unique("copy")
    with RunningServer() as server:

        def breaks_off() -> Iterator[str]:
            yield from records[:-1]
            os.kill(server.pid, signal.SIGKILL)
            yield records[-1]

        with server.client(timeout=30) as client, pytest.raises(errors.RecollectError):
            client.admin.import_user(name, breaks_off())
        server.kill()
        server.start()
        with pytest.raises(errors.NotFound):
            _export(server, name)
        assert _import(server, name, records) == len(records)


def test_exports_of_many_messages_are_streamed_in_order(here):
    name = unique("many")
    with here.client(name, timeout=120) as client:
        client.memory.create_session(session_id="s")
        for start in range(0, 1200, 100):
            client.memory.append_messages("s", [f"message {start + n}" for n in range(100)])
    sequences = [
        record["sequence"]
        for record in map(json.loads, _export(here, name))
        if record["type"] == "message"
    ]
    assert len(sequences) == 1200
    assert all(a < b for a, b in pairwise(sequences))


def _recollect(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recollect_server", *arguments, "--target", server.address],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=120,
        check=False,
    )


def test_the_command_line_exports_imports_and_erases(here, there, ada, tmp_path: Path):
    file, name = tmp_path / "ada.jsonl", unique("copy")
    done = _recollect(here, "export", "--user", ada.user, "--to", str(file), "--vectors")
    assert done.returncode == 0, done.stderr
    records = file.read_text(encoding="utf-8").split("\n")[:-1]
    assert done.stderr == f"{len(records)} records\n"
    done = _recollect(there, "import", "--user", name, "--from", str(file))
    assert (done.returncode, done.stderr) == (0, f"{len(records)} records\n")
    done = _recollect(there, "import", "--user", name, "--from", str(file))
    assert done.returncode == 1
    assert "already exists" in done.stderr
    done = _recollect(there, "erase", "--yes", "--user", name)
    assert done.returncode == 0, done.stderr
    assert "complete, audit event" in done.stdout
    assert "sql" in done.stdout
    done = _recollect(there, "export", "--user", name)
    assert done.returncode == 1

"""The audit log of a real server: what is recorded, that it is sealed, and what verify says."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from tests.harness import RunningServer, clean_environment, eventually, unique

from recollect import errors
from recollect.v1 import admin_pb2
from recollect_server.stores.audit_key import AuditKey


def _recollect(server: RunningServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "recollect_server", "audit", *arguments),
            *("--data-dir", str(server.data_dir)),
        ],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def audited():
    flags = ("--audit", "admin,writes,Recall,ListFacts,ExportUser", "--auth", "api-key")
    with RunningServer(*flags) as running:
        yield running


@pytest.fixture(scope="module")
def make_key(audited):
    """Return a function that makes a key with a role, and returns its id and token."""

    def make(role: str, *more: str) -> tuple[str, str]:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "recollect_server", "keys", "create", "--name", role),
                *("--role", role, "--data-dir", str(audited.data_dir), *more),
            ],
            capture_output=True,
            text=True,
            env=clean_environment(),
            timeout=120,
            check=True,
        )
        token = done.stdout.strip()
        return token.split("_")[1], token

    return make


def _events(admin, user: str = "") -> list[tuple[str, str, str, str, str]]:
    return [
        (e.key_id, e.method.rpartition("/")[2], e.user_id, e.resource, e.outcome)
        for e in admin.admin.list_audit_events(user_id=user)
    ]


def test_named_calls_are_recorded_with_who_did_what_and_how_it_ended(audited, make_key):
    admin_id, token = make_key("admin")
    user = unique("ada")
    with audited.client(user, api_key=token) as client:
        fact = client.memory.remember(["I like tea."]).facts[0]
        client.memory.recall("tea?")
        client.memory.get_fact(fact.fact_id)
        with pytest.raises(errors.NotFound):
            client.memory.update_fact("none", text="other")
        assert len(list(client.memory.list_facts())) == 1
        assert len(list(client.admin.export_user(user))) > 1
        found = _events(client, user)
        assert [(key, method, outcome) for key, method, _, _, outcome in found] == [
            (admin_id, "ExportUser", "OK"),
            (admin_id, "ListFacts", "OK"),
            (admin_id, "UpdateFact", "NOT_FOUND"),
            (admin_id, "Recall", "OK"),
            (admin_id, "Remember", "OK"),
        ]
        assert (admin_id, "UpdateFact", user, "fact_id=none", "NOT_FOUND") in found


def test_a_refused_call_is_recorded_without_the_user_it_asked_for(audited, make_key):
    _, admin = make_key("admin")
    reader_id, reader = make_key("reader", "--user", "bob")
    user = unique("ada")
    with audited.client(user, api_key=reader) as client:
        with pytest.raises(errors.PermissionDenied):
            client.memory.remember(["I like tea."])
        with pytest.raises(errors.PermissionDenied):
            client.memory.recall("tea?")
    with audited.client(user, api_key=admin) as client:
        own = [event for event in _events(client) if event[0] == reader_id]
        assert own == [
            (reader_id, "Recall", "", "", "PERMISSION_DENIED"),
            (reader_id, "Remember", "", "", "PERMISSION_DENIED"),
        ]


def test_an_imported_user_and_a_made_key_are_named(audited, make_key):
    _, token = make_key("admin")
    user, copy = unique("ada"), unique("copy")
    with audited.client(user, api_key=token) as client:
        client.memory.remember(["I like tea."])
        client.admin.import_user(copy, list(client.admin.export_user(user)))
        assert _events(client, copy)[0][1:] == ("ImportUser", copy, "", "OK")
        made = client.admin.create_api_key("made", role=admin_pb2.KEY_ROLE_READER).api_key
        created = [e for e in _events(client) if e[1] == "CreateApiKey"]
        assert created[0][3] == f"key_id={made.key_id}"


def test_an_erased_user_is_in_no_event_though_calls_are_recorded(audited, make_key):
    _, token = make_key("admin")
    user = unique("planted")
    with audited.client(user, api_key=token) as client:
        client.memory.remember(["I like tea."])
        assert client.admin.erase_user(user).complete
        assert [e for e in _events(client) if user in repr(e)] == []
        (receipt,) = (e for e in _events(client, user) if e[1] == "EraseUser")
        assert receipt[2].startswith("erased:")


def test_what_was_sealed_is_verified_exported_and_found_when_it_is_changed(audited, make_key):
    _, token = make_key("admin")
    with audited.client(unique("ada"), api_key=token) as client:
        client.memory.remember(["I like tea."])

        def sealed():
            return all(event.chain_hash for event in client.admin.list_audit_events())

        eventually(sealed, 60)
    heads = _recollect(audited, "heads")
    assert heads.returncode == 0, heads.stderr
    file = audited.data_dir / "exported-heads.jsonl"
    file.write_text(heads.stdout)
    public = audited.data_dir / "public.pem"
    public.write_text(_recollect(audited, "key").stdout)
    check = ("verify", "--heads", str(file), "--public-key", str(public))
    whole = _recollect(audited, *check)
    assert whole.returncode == 0, whole.stderr
    assert "are whole" in whole.stdout

    exported = _recollect(audited, "export")
    records = [json.loads(line) for line in exported.stdout.splitlines()]
    events = [record for record in records if record["kind"] == "event"]
    seals = [record for record in records if record["kind"] == "seal"]
    (head,) = (json.loads(line) for line in heads.stdout.splitlines())
    assert head in [{n: v for n, v in seal.items() if n != "kind"} for seal in seals]
    middle = next(e for e in events if e["sequence"] == 2)
    with closing(sqlite3.connect(audited.data_dir / "recollect.db")) as database:
        database.execute(
            "UPDATE audit_events SET outcome = 'UNKNOWN' WHERE event_id = ?", (middle["event_id"],)
        )
        database.commit()
        broken = _recollect(audited, *check)
        assert broken.returncode == 1
        assert f"event {middle['event_id']} (sequence 2) was changed" in broken.stderr
        database.execute(
            "UPDATE audit_events SET outcome = ? WHERE event_id = ?",
            (middle["outcome"], middle["event_id"]),
        )
        database.commit()
    assert _recollect(audited, *check).returncode == 0

    other = audited.data_dir / "other.pem"
    other.write_text(AuditKey.open(audited.data_dir / "other").public_pem)
    stranger = _recollect(audited, "verify", "--public-key", str(other))
    assert stranger.returncode == 1
    assert "which is not known here" in stranger.stderr


def test_a_file_that_holds_no_heads_is_refused(audited, tmp_path):
    wrong = tmp_path / "heads.jsonl"
    for text in ("no json", "[]", '{"tenant": "acme"}'):
        wrong.write_text(f"{text}\n")
        refused = _recollect(audited, "verify", "--heads", str(wrong))
        assert refused.returncode == 2
        assert f"{wrong}, line 1" in refused.stderr


def test_a_check_makes_no_key(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "recollect_server", "audit", "verify", "--data-dir", str(tmp_path)],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no key" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RECOLLECT_AUDIT": "admin,Recal"}, "'Recal' is neither reads, writes, admin nor"),
        ({"RECOLLECT_AUDIT_KEY": "secret"}, "not an unencrypted private key in PEM"),
    ],
)
def test_a_server_refuses_what_it_cannot_record_or_sign_with(tmp_path, environment, said):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "recollect_server", "serve", "--listen", "127.0.0.1:0"),
            *("--data-dir", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        env=clean_environment(**environment),
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stderr

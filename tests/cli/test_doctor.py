"""`recollect doctor` finds what is really broken, and says what to do."""

import json
import os
import pwd
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.harness import ROOT, clean_environment
from tests.postgres_server import PostgresServer
from tests.stores.valkey.valkey_server import Server

from recollect_server import config
from recollect_server.diagnosis import Finding, Level
from recollect_server.diagnosis.access import check_access
from recollect_server.diagnosis.checks import examine
from recollect_server.diagnosis.machine import (
    LEAST_BYTES,
    LOW_BYTES,
    check_environment,
    check_folder,
    check_limits,
    check_secrets,
    check_tls,
)
from recollect_server.diagnosis.models import check_chat, check_embedder
from recollect_server.diagnosis.permissions import COMMANDS
from recollect_server.diagnosis.stores import check_sql, check_valkey, check_vectors
from recollect_server.models import minilm
from recollect_server.parts import utc_now
from recollect_server.stores import valkey as valkey_stores
from recollect_server.stores.sql.migrate import HEAD, migrate


def _settings(**flags: Any) -> config.Settings:
    return config.load(None, **flags)


def _doctor(*flags: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recollect_server", "doctor", *flags],
        capture_output=True, text=True, env=clean_environment(), timeout=60, check=False, **more,
    )  # fmt: skip


def _said(found: list[Finding], subject: str, level: Level) -> str:
    """Return the only finding of a subject, which must be of a level."""
    (finding,) = [each for each in found if each.subject == subject]
    assert finding.level is level, finding
    assert bool(finding.advice) == (level is not Level.OK)
    return finding.text


@contextmanager
def _valkey(*options: str) -> Iterator[Server]:
    server = Server(*options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
        server.close()


# The whole of it


def test_a_sound_set_up_passes_and_an_outage_fails(tmp_path):
    tmp_path.chmod(0o700)
    migrate(tmp_path / "recollect.db")
    sound = _doctor("--data-dir", str(tmp_path))
    assert sound.returncode == 0, sound.stdout + sound.stderr
    assert f"ok    sql          SQLite answers and has schema {HEAD}\n" in sound.stdout
    assert "ok    embedder     all-MiniLM-L6-v2 gives vectors of 384 numbers\n" in sound.stdout
    broken = _doctor("--data-dir", str(tmp_path), "--state-url", "valkey://127.0.0.1:1", "--json")
    assert broken.returncode == 1
    told = json.loads(broken.stdout)
    assert told["ok"] is False
    (state,) = [each for each in told["findings"] if each["level"] == "fail"]
    assert state["subject"] == "state"
    assert state["advice"]


def test_wrong_settings_are_named(tmp_path):
    done = _doctor("--data-dir", str(tmp_path), "--listen", "0.0.0.0:50051")
    assert done.returncode == 2
    assert "needs TLS" in done.stderr


def test_it_takes_the_flags_of_serve():
    help_of = {c: _doctor_help(c) for c in ("serve", "doctor")}
    assert help_of["serve"] - help_of["doctor"] == {"--ready-file"}


def _doctor_help(command: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-m", "recollect_server", command, "--help"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return {word.strip(",") for word in done.stdout.split() if word.startswith("--")}


def test_a_variable_that_is_no_setting_is_warned_of():
    known = ("RECOLLECT_LISTEN", "recollect_workers", "RECOLLECT_API_KEY", "DATABASE_URL")
    services = ("RECOLLECT_HEADLESS_SERVICE_HOST", "RECOLLECT_PORT", "RECOLLECT_PORT_50051_TCP")
    found = [*check_environment([*known, *services, "RECOLLECT_WORKRES"])]
    assert "RECOLLECT_WORKRES" in _said(found, "environment", Level.WARN)


# Folder and disk


def test_a_file_of_secrets_that_is_no_setting_is_warned_of(tmp_path):
    for name in ("DATABASE_URL", "DATABSE_URL"):
        (tmp_path / name).write_text("postgresql://example/db")
    found = [*check_secrets(_settings(secrets_dir=tmp_path))]
    assert "DATABSE_URL" in _said(found, "secrets", Level.WARN)


def test_a_folder_that_is_made_is_its_users_alone(tmp_path):
    settings = _settings(data_dir=tmp_path / "data")
    migrate(settings.sqlite_path)
    assert all(each.level is Level.OK for each in check_folder(settings) if each.subject != "disk")


def test_a_folder_that_cannot_be_written_fails(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir(mode=0o555)
    if os.getuid() != 0:
        assert "cannot be written" in _said(
            [*check_folder(_settings(data_dir=folder))], "data folder", Level.FAIL
        )
        return
    # Root writes anywhere, so another user looks.
    for parent in tmp_path.parents:
        if parent == Path("/tmp"):
            break
        parent.chmod(0o755)
    tmp_path.chmod(0o755)
    entry = pwd.getpwnam("nobody")
    program = (
        "import os\nfrom pathlib import Path\n"
        "from recollect_server import config\n"
        "from recollect_server.diagnosis.machine import check_folder\n"
        f"os.setgroups([]); os.setgid({entry.pw_gid}); os.setuid({entry.pw_uid})\n"
        f"print([*check_folder(config.load(None, data_dir=Path({str(folder)!r})))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "Level.FAIL" in done.stdout
    assert "cannot be written: Permission denied" in done.stdout


def test_a_folder_that_others_read_is_warned_of(tmp_path):
    tmp_path.chmod(0o755)
    assert _said([*check_folder(_settings(data_dir=tmp_path))], "permissions", Level.WARN)
    tmp_path.chmod(0o750)
    found = [*check_folder(_settings(data_dir=tmp_path))]
    assert [each for each in found if each.subject == "permissions"] == []


def test_little_room_is_warned_of_and_none_fails(tmp_path, monkeypatch):
    def room(free: int) -> list[Finding]:
        usage = shutil.disk_usage(tmp_path)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        return [*check_folder(_settings(data_dir=tmp_path))]

    assert _said(room(LOW_BYTES), "disk", Level.OK)
    assert _said(room(LOW_BYTES - 1), "disk", Level.WARN)
    assert _said(room(LEAST_BYTES - 1), "disk", Level.FAIL)


# TLS


def _certificate(folder: Path, name: str, begins: datetime, ends: datetime) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    files = folder / f"{name}.crt", folder / f"{name}.key"
    files[0].write_bytes(certificate.public_bytes(pem))
    files[1].write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    files[1].chmod(0o600)
    return files


@pytest.mark.parametrize(
    ("begins", "ends", "level", "text"),
    [
        (-2, 300, Level.OK, "holds until"),
        (-2, 20, Level.WARN, "expires at"),
        (-20, -2, Level.FAIL, "expired at"),
        (2, 300, Level.FAIL, "holds from"),
    ],
)
def test_a_certificate_is_told_by_how_long_it_holds(tmp_path, begins, ends, level, text):
    now = utc_now()
    files = _certificate(tmp_path, "it", now + timedelta(begins), now + timedelta(ends))
    settings = _settings(tls_cert=files[0], tls_key=files[1])
    assert text in _said([*check_tls(settings, now)], "tls", level)


def test_another_certificates_key_fails_and_an_open_one_is_warned_of(tmp_path):
    now = utc_now()
    one = _certificate(tmp_path, "one", now, now + timedelta(100))
    two = _certificate(tmp_path, "two", now, now + timedelta(100))
    mixed = _settings(tls_cert=one[0], tls_key=two[1])
    assert "cannot be used" in _said([*check_tls(mixed, now)], "tls", Level.FAIL)
    one[1].chmod(0o644)
    found = [*check_tls(_settings(tls_cert=one[0], tls_key=one[1]), now)]
    assert [each.level for each in found] == [Level.OK, Level.WARN]


def test_limits_that_a_server_would_refuse_fail(tmp_path):
    assert not [*check_limits(_settings())]
    path = tmp_path / "limits.toml"
    settings = _settings(limits_file=path)
    assert str(path) in _said([*check_limits(settings)], "limits", Level.FAIL)
    path.write_text('[tenants.acme]\nuser_limits = "requests=5"')
    said = _said([*check_limits(settings)], "limits", Level.FAIL)
    assert "tenants.acme.user_limits: '5' is not a rate" in said
    path.write_text('[tenants.acme]\nuser_limits = "requests=5/s"')
    assert "for 1 single tenants" in _said([*check_limits(settings)], "limits", Level.OK)


# Access and audit


async def test_what_a_server_would_refuse_at_its_start_fails(tmp_path):
    jwt = {"auth": "jwt", "jwt_issuer": "https://issuer", "jwt_audience": "memory"}
    missing = _settings(**jwt, jwt_jwks=str(tmp_path / "none.json"), audit="Nonsense")
    found = [each async for each in check_access(missing)]
    assert "none.json" in _said(found, "tokens", Level.FAIL)
    assert "Nonsense" in _said(found, "audit", Level.FAIL)
    there = _settings(**jwt, jwt_jwks="https://issuer/jwks", audit_key="junk")
    found = [each async for each in check_access(there)]
    assert _said(found, "tokens", Level.OK)
    assert "junk" not in _said(found, "audit", Level.FAIL)
    assert not [each async for each in check_access(_settings())]


async def test_a_fallback_that_cannot_be_is_told():
    settings = _settings(openai_api_key="k", chat_fallback="other:model")
    assert (await check_chat(settings)).text == (
        "no provider is called 'other': anthropic and openai are"
    )


# SQL


def _at(path: Path, revision: str) -> config.Settings:
    path.mkdir()
    migrate(path / "recollect.db")
    with sqlite3.connect(path / "recollect.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    connection.close()
    return _settings(data_dir=path)


def test_a_newer_schema_fails_and_an_older_sqlite_file_is_brought_up_by_the_server(tmp_path):
    now = utc_now()
    assert "9999" in _said(check_sql(_at(tmp_path / "new", "9999"), now), "sql", Level.FAIL)
    assert "0001" in _said(check_sql(_at(tmp_path / "old", "0001"), now), "sql", Level.OK)


def test_a_damaged_file_fails(tmp_path):
    settings = _settings(data_dir=tmp_path)
    migrate(settings.sqlite_path)
    assert _said(check_sql(settings, utc_now()), "sql file", Level.OK)
    size = settings.sqlite_path.stat().st_size
    with settings.sqlite_path.open("r+b") as file:
        file.seek(8192)
        file.write(os.urandom(size - 8192))
    found = check_sql(settings, utc_now())
    assert [each.level for each in found if "damaged" in each.text or "cannot" in each.text] == [
        Level.FAIL
    ]


def test_relaxed_durability_is_warned_of(tmp_path):
    settings = _settings(data_dir=tmp_path, durability="relaxed")
    assert _said(check_sql(settings, utc_now()), "durability", Level.WARN)


def test_postgres_without_the_schema_or_away_fails_and_a_clock_apart_is_warned_of(postgres):
    settings = _settings(database_url=postgres.create())
    found = check_sql(settings, utc_now())
    assert "has schema none" in _said(found, "sql", Level.FAIL)
    assert _said(found, "clock", Level.OK)
    later = utc_now() + timedelta(minutes=1)
    assert "60 s behind" in _said(check_sql(settings, later), "clock", Level.WARN)
    away = _settings(database_url="postgresql://postgres:pw-secret@127.0.0.1:1/x")
    text = _said(check_sql(away, utc_now()), "sql", Level.FAIL)
    assert "pw-secret" not in text


def test_postgres_that_does_not_sync_fails():
    with PostgresServer() as running:
        with psycopg.connect(running.url("postgres"), autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET fsync = off")
            connection.execute("SELECT pg_reload_conf()")
        migrate(running.url("postgres"))
        found = check_sql(_settings(database_url=running.url("postgres")), utc_now())
    assert "fsync = off" in _said(found, "durability", Level.FAIL)


# Valkey


def _state_of(server: Server, **more: Any) -> config.Settings:
    return _settings(state_url=server.url("valkey"), **more)


def _levels(found: list[Finding], subject: str) -> list[Level]:
    return [each.level for each in found if each.subject == subject]


async def test_a_fit_valkey_passes_and_one_that_evicts_state_fails():
    with _valkey("--appendonly", "yes", "--maxmemory-policy", "noeviction") as fit:
        found = await check_valkey(_state_of(fit), utc_now())
        assert {each.level for each in found} == {Level.OK}
        assert [each.subject for each in found] == ["state", "clock", "search"]
    with _valkey("--appendonly", "yes", "--maxmemory-policy", "allkeys-lru") as evicting:
        found = await check_valkey(_state_of(evicting), utc_now())
        assert _levels(found, "state") == [Level.OK, Level.FAIL]
    with _valkey("--appendonly", "no", "--maxmemory-policy", "volatile-lru") as plain:
        found = await check_valkey(_state_of(plain), utc_now())
        assert _levels(found, "state") == [Level.OK, Level.WARN, Level.WARN]


async def test_a_cache_that_fills_up_is_warned_of():
    with _valkey("--maxmemory", "64mb", "--maxmemory-policy", "noeviction") as full:
        settings = _settings(state_url="valkey://127.0.0.1:1", cache_url=full.url("valkey"))
        found = await check_valkey(settings, utc_now())
    assert _levels(found, "cache") == [Level.OK, Level.WARN]
    assert _levels(found, "state") == [Level.FAIL]


async def test_a_wrong_password_fails_and_is_not_shown():
    with _valkey("--requirepass", "right") as server:
        url = f"valkey://:wrong-secret@127.0.0.1:{server.port}"
        found = await check_valkey(_settings(state_url=url), utc_now())
        text = _said(found, "state", Level.FAIL)
        assert "Authentication" in text
        assert "wrong-secret" not in text
        good = _settings(state_url=f"valkey://:right@127.0.0.1:{server.port}")
        assert _levels(await check_valkey(good, utc_now()), "state")[0] is Level.OK


async def test_what_a_valkey_answers_to_a_database_that_it_has_not_is_told():
    with _valkey() as server:
        settings = _settings(state_url=f"{server.url('valkey').removesuffix('/0')}/99")
        text = _said(await check_valkey(settings, utc_now()), "state", Level.FAIL)
    assert "DB index is out of range" in text


async def test_a_valkey_that_hides_its_settings_is_warned_of():
    with _valkey("--rename-command", "CONFIG", "hidden") as server:
        found = await check_valkey(_state_of(server), utc_now())
    assert _levels(found, "state") == [Level.OK, Level.WARN]


async def _of_user(rules: str, **more: Any) -> list[Finding]:
    """Check a server by a user of these rules."""
    with _valkey("--appendonly", "yes") as server:
        server.admin.execute_command("ACL", "SETUSER", "app", "on", ">pw", *rules.split())
        url = server.url("valkey").replace("://", "://app:pw@")
        found = await check_valkey(_settings(**{"state_url": url, **more}), utc_now())
        assert server.admin.keys("*") == []
    return found


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        ("~rc2:* &rc2:* +@all -hset -eval", "EVAL, HSET"),
        ("~other:* &rc2:* +@all", "keys (~rc2:*)"),
        ("~rc2:* &other:* +@all", "channels (&rc2:*)"),
        ("~rc2:* &rc2:* +@read", "MULTI, by which the rest would be looked at"),
    ],
)
async def test_what_a_user_may_not_do_fails_and_is_named(rules, missing):
    text = _said(await _of_user(rules), "state", Level.FAIL)
    assert text.endswith(f" forbids its user {missing}")


async def test_the_documented_rules_are_enough():
    text = (ROOT / "docs/deployment.md").read_text()
    (rules,) = re.findall(r"^ACL SETUSER recollect on >PASSWORD (.*)$", text, re.MULTILINE)
    assert {each.level for each in await _of_user(rules)} == {Level.OK}
    cut = rules.replace("+info", "").replace("+config|get", "")
    assert _levels(await _of_user(cut), "state") == [Level.OK, Level.WARN]


async def test_every_command_of_the_adapters_is_looked_for():
    stores = Path(valkey_stores.__file__).parent
    searched = stores.parent / "valkey_search"
    written = "\n".join(f.read_text() for d in (stores, searched) for f in d.glob("*.py"))
    used = {
        *re.findall(r"redis\.call\(\s*'([A-Z]+)'", written),
        *re.findall(r"(?:command|_call|send|partial)\([^)]*?\"([A-Z_.]{3,})\"", written),
        "FT.SEARCH",
    } - {"ASKING", "CLUSTER"}
    looked_for = {c.split()[0] for each in COMMANDS.values() for c in each.split(";")}
    assert used - looked_for == set()
    assert looked_for - used == {"SUBSCRIBE"}


async def test_a_clock_that_is_apart_is_warned_of():
    with _valkey() as server:
        found = await check_valkey(_state_of(server), utc_now() - timedelta(minutes=1))
    assert "60 s ahead" in _said(found, "clock", Level.WARN)


# Vector stores and models


async def test_a_vector_store_that_is_away_fails(tmp_path):
    settings = _settings(data_dir=tmp_path, chromadb_url="http://127.0.0.1:1")
    assert (await check_vectors(settings, 384)).level is Level.FAIL
    assert (await check_vectors(_settings(data_dir=tmp_path), 384)).level is Level.OK


async def test_a_vector_store_that_is_there_passes(tmp_path):
    folder = tmp_path / "chroma"
    settings = _settings(data_dir=tmp_path, chromadb_url=str(folder))
    finding = await check_vectors(settings, 384)
    assert (finding.level, finding.text) == (Level.OK, "chroma answers")


async def test_pgvector_without_its_extension_fails_where_it_cannot_be_made(postgres):
    url = postgres.create("recollect")
    able = _settings(database_url=url, vector_store="pgvector")
    plain = _settings(database_url=url.replace("postgres@", "plain@"), vector_store="pgvector")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN")
        connection.execute("GRANT pg_read_all_data TO plain")
        try:
            assert (await check_vectors(able, 384)).level is Level.OK
            found = await check_vectors(plain, 384)
            assert found.level is Level.FAIL
            assert "no extension `vector`" in found.text
            connection.execute("CREATE EXTENSION vector")
            assert (await check_vectors(plain, 384)).level is Level.OK
        finally:
            connection.execute("DROP OWNED BY plain")
            connection.execute("DROP ROLE plain")


async def test_a_model_that_was_changed_on_disk_fails(tmp_path, monkeypatch):
    folder = Path(minilm.__file__).parent
    for name in ("digests.json", "tokenizer.json"):
        shutil.copy(folder / name, tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"another")
    monkeypatch.setattr(minilm, "__file__", str(tmp_path / "__init__.py"))
    found, dimensions = await check_embedder(_settings())
    assert "model.onnx" in _said(found, "embedder", Level.FAIL)
    assert dimensions == 0


@contextmanager
def _api(status: int, body: dict[str, Any]) -> Iterator[str]:
    """Answer every request with a status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


MODELS = {"data": [], "object": "list", "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
@pytest.mark.parametrize(
    ("status", "level", "text"),
    [
        (200, Level.OK, "answers and takes the key"),
        (401, Level.FAIL, "refuses the key"),
        (404, Level.OK, "answers"),
        (529, Level.WARN, "answers with status 529"),
    ],
)
async def test_a_chat_key_is_tried(provider, status, level, text):
    with _api(status, MODELS) as url:
        settings = _settings(**{f"{provider}_api_key": "k", f"{provider}_base_url": url})
        finding = await check_chat(settings)
    assert (finding.level, finding.text) == (level, f"{provider} {text}")


async def test_a_provider_that_is_away_fails_and_none_is_warned_of():
    settings = _settings(anthropic_api_key="k", anthropic_base_url="http://127.0.0.1:1")
    away = await check_chat(settings)
    assert (away.level, away.text) == (Level.FAIL, "anthropic cannot be reached")
    assert (await check_chat(_settings())).level is Level.WARN


async def test_every_subject_is_documented(tmp_path):
    text = (ROOT / "docs/deployment.md").read_text()
    with _valkey() as server:
        found = await examine(_state_of(server, data_dir=tmp_path), lambda: datetime.now(UTC))
    for finding in found:
        assert f"`{finding.subject}`" in text, finding.subject

"""Migrations: old data is kept, newer schemas are refused, processes may migrate at once."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from tests.postgres_server import PostgresServer
from tests.stores.sql.support import ADA, MODEL, Stores, open_database, request

from recollect_server.memory.model import FactKind, TextPart
from recollect_server.stores.codec import encode_parts, pack
from recollect_server.stores.sql import migrate as schema
from recollect_server.stores.sql.migrate import HEAD, SchemaError, migrate, needs_migration

MIGRATE = (
    "import sys; from pathlib import Path; "
    "from recollect_server.stores.sql.migrate import migrate; "
    "place = sys.argv[1]; migrate(place if '://' in place else Path(place))"
)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    """Where a database may be made."""
    if request.param == "sqlite":
        return tmp_path / "new" / "recollect.db"
    postgres: PostgresServer = request.getfixturevalue("postgres")
    return postgres.create()


def _execute(location: str | Path, *statements: str) -> None:
    if isinstance(location, Path):
        connection = sqlite3.connect(location)
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        connection.close()
    else:
        with psycopg.connect(location) as other:
            for statement in statements:
                other.execute(statement)


def _fill_0001(tx) -> None:
    """Write what a server of schema 0001 wrote."""
    tx.execute("INSERT INTO users (user_key, tenant, user_id, revision) VALUES (1,'acme','ada',9)")
    tx.execute(
        "INSERT INTO sessions (session_key, user_key, session_id, title, retention, metadata, "
        "window_size, window_ttl, idle_ttl, create_time, update_time, revision, last_sequence, "
        "window_start) VALUES (1, 1, 's', 'Títle', 1, :metadata, 20, 5, 0, 7, 8, 4, 3, 2)",
        {"metadata": pack({"k": "v"})},
    )
    for n in (1, 2, 3):
        tx.execute_many(
            "INSERT INTO messages (session_key, sequence, user_key, user_revision, message_id, "
            "role, content, time, create_time, token_count) VALUES (1, :n, 1, :n, :id, 1, "
            ":content, 7, 7, 10)",
            [{"n": n, "id": f"m{n}", "content": encode_parts((TextPart(f"text {n}"),))}],
        )
    tx.execute(
        "INSERT INTO facts (user_key, fact_id, version, is_current, user_revision, text, metadata,"
        " confidence, valid_from, recorded_at, sources, superseded_by) VALUES (1, 'f', 1, 1, 5, "
        "'a fact', :metadata, 1.0, 7, 7, :sources, '')",
        {"metadata": pack({}), "sources": pack([])},
    )
    pending = "INSERT INTO pending_vectors (user_key, user_revision, kind, session_key, sequence, "
    tx.execute(pending + "fact_id) VALUES (1, 5, 1, 0, 0, 'f')")
    tx.execute(pending + "fact_id) VALUES (1, 3, 2, 1, 3, '')")
    tx.execute(
        "INSERT INTO jobs (job_id, kind, user_key, state, attempts, run_time, lease, last_error, "
        "create_time) VALUES ('j', 'embed', 1, 'dead', 10, 7, 3, 'oh', 7)"
    )
    tx.execute(
        "INSERT INTO requests (tenant, user_id, method, request_id, digest, result, create_time) "
        "VALUES ('acme', 'ada', 'AppendMessages', 'r', :digest, :result, :now)",
        {"digest": b"digest", "result": pack([3, 3, 4, 3]), "now": 1_777_636_800_000_000},
    )


async def test_a_database_of_the_first_schema_keeps_its_data(empty, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(schema, "HEAD", "0001")
        assert migrate(empty)
    old = open_database(empty)
    await old.write(_fill_0001)
    await old.close()
    assert needs_migration(empty)
    assert migrate(empty)
    assert not needs_migration(empty)
    database = open_database(empty)
    stores = Stores(database)
    session = await stores.sessions.get_session(ADA, "s")
    assert (session.title, session.metadata, session.revision) == ("Títle", {"k": "v"}, 4)
    assert (session.window_start, session.summary_through, session.open_tokens) == (2, 1, 20)
    assert (session.expire_time, session.episode_through) == (None, 0)
    assert await stores.texts() == ["text 1", "text 2", "text 3"]
    repeated = await stores.append("text 3", request=request("r"))
    assert [m.sequence for m in repeated.messages] == [3]
    (job,) = await stores.jobs.list_jobs("acme", state=None, limit=9, after=None)
    assert (job.job_id, job.state.name, job.last_error) == ("j", "DEAD", "oh")
    await stores.jobs.retry_job("acme", "j")
    task = await stores.queue.lease_embedding(MODEL, 9)
    assert {item.text for item in task.items} == {"a fact", "text 3"}
    assert (await stores.append("text 4")).messages[0].sequence == 4
    position = await stores.changes.latest_position(ADA)
    assert position.revision == 11
    fact = await stores.facts.get_fact(ADA, "f")
    assert (fact.text, fact.kind) == ("a fact", FactKind.OTHER)
    assert await stores.facts.same_facts(ADA, "A fact.") == (fact,)
    await database.close()


async def test_rows_that_outlived_their_session_are_in_no_session_made_later(tmp_path, monkeypatch):
    path = tmp_path / "recollect.db"
    with monkeypatch.context() as before:
        before.setattr(schema, "HEAD", "0009")
        assert migrate(path)
    old = open_database(path)
    stores = Stores(old)
    await stores.session("s")
    await stores.append("secret", session_id="s")
    await old.write(lambda tx: tx.execute("DELETE FROM sessions"))
    await old.close()
    assert migrate(path)
    database = open_database(path)
    stores = Stores(database)
    await stores.session("later")
    assert await stores.texts("later") == []
    await stores.append("new", session_id="later")
    assert await stores.texts("later") == ["new"]
    await database.close()


def test_a_database_is_made_once(empty):
    assert needs_migration(empty)
    assert migrate(empty)
    assert not migrate(empty)


def test_asking_whether_to_migrate_makes_no_file(tmp_path):
    for path in (tmp_path / "recollect.db", tmp_path / "no folder" / "recollect.db"):
        assert needs_migration(path)
    assert list(tmp_path.iterdir()) == []


def test_processes_that_migrate_at_once_make_one_schema(empty):
    started = [
        subprocess.Popen([sys.executable, "-c", MIGRATE, str(empty)], stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    said = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert migrate(empty) is False


def test_a_newer_schema_is_refused(location):
    _execute(location, "UPDATE alembic_version SET version_num = '9999'")
    for refused in (migrate, needs_migration):
        with pytest.raises(SchemaError, match=f"9999.*{HEAD}.*newer Recollect"):
            refused(location)


def test_a_migration_that_fails_leaves_the_database_as_it_was(empty, monkeypatch):
    with monkeypatch.context() as before:
        before.setattr(schema, "HEAD", "0001")
        migrate(empty)
    _execute(empty, "CREATE TABLE episodes (in_the_way INTEGER)")
    with pytest.raises(SchemaError, match="migration failed"):
        migrate(empty)
    _execute(empty, "DROP TABLE episodes", "INSERT INTO pending_vectors VALUES (1,1,1,0,0,'f')")
    assert schema.current_revision(empty) == "0001"
    assert migrate(empty)


@pytest.mark.parametrize("name", ["a b", "100%", "what?", "#1", "日本語", "a'b"])
def test_a_path_may_have_any_character(tmp_path, name):
    path = tmp_path / name / "recollect.db"
    assert migrate(path)
    assert path.stat().st_size > 0
    assert not needs_migration(path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "recollect.db"
    path.write_text("Dear diary, " * 1000)
    with pytest.raises(SchemaError, match="cannot be read"):
        migrate(path)
    assert path.read_text().startswith("Dear diary")


def test_a_server_that_does_not_answer_is_said_so(postgres):
    for url in (
        "postgresql://postgres@127.0.0.1:1/recollect",
        postgres.url("no_such_database"),
    ):
        with pytest.raises(SchemaError, match="does not answer"):
            migrate(url)


def test_a_current_schema_costs_no_import_of_alembic(path):
    code = (
        "import sys; from pathlib import Path; "
        "from recollect_server.stores.sql.migrate import migrate; "
        "assert migrate(Path(sys.argv[1])) is False; "
        "assert 'alembic' not in sys.modules and 'sqlalchemy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)

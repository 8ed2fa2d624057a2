"""Erasures of users, what is left of those who were erased, and imports that are under way."""

import secrets

import sqlalchemy as sa
from alembic import op

from recollect_server.stores.sql.migrations import run

revision = "0009"
down_revision = "0008"

STATEMENTS = (
    # Set where the row stands for one who was erased: the keyed digest of who that was. Such a row
    # has no tenant and an id made by the server, so no caller can name it.
    "ALTER TABLE users ADD COLUMN erased BLOB",
    "CREATE INDEX users_erased ON users (erased) WHERE erased IS NOT NULL",
    # One row: the key of the digests that stand for erased users.
    "CREATE TABLE erasure_key (number INTEGER PRIMARY KEY, value BLOB NOT NULL)",
    # `tenant` and `user_id` are empty once it is complete, and `removed` counts by store.
    """
    CREATE TABLE erasures (
        erasure_id TEXT PRIMARY KEY,
        erased BLOB NOT NULL,
        request_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        user_id TEXT NOT NULL,
        key_id TEXT NOT NULL,
        call_id TEXT NOT NULL,
        complete SMALLINT NOT NULL,
        removed BLOB NOT NULL,
        lease BIGINT NOT NULL,
        lease_until BIGINT NOT NULL,
        event_id TEXT NOT NULL,
        create_time BIGINT NOT NULL,
        end_time BIGINT
    )
    """,
    # Hidden users who are being imported, and when something was written last.
    "CREATE TABLE imports (user_key BIGINT PRIMARY KEY, write_time BIGINT NOT NULL)",
    "CREATE INDEX erasures_open ON erasures (create_time) WHERE complete = 0",
    "CREATE UNIQUE INDEX erasures_of_user ON erasures (erased) WHERE complete = 0",
    "CREATE INDEX erasures_by_user ON erasures (erased, create_time)",
)


def upgrade() -> None:
    """Add the tables, and make the key."""
    run(STATEMENTS)
    table = sa.table("erasure_key", sa.column("number"), sa.column("value"))
    op.get_bind().execute(sa.insert(table).values(number=1, value=secrets.token_bytes(32)))

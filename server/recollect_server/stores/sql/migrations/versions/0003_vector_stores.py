"""Vector stores outside the process, and how far each is behind.

A table of pgvector is made when that store is chosen, because it needs an extension.
"""

from recollect_server.stores.sql.migrations import run

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
    CREATE TABLE vector_stores (
        store_key INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        url TEXT NOT NULL,
        model TEXT NOT NULL,
        dimensions INTEGER NOT NULL,
        fed SMALLINT NOT NULL,
        state TEXT NOT NULL,
        state_time BIGINT NOT NULL,
        swept SMALLINT NOT NULL
    )
    """,
    """
    CREATE TABLE vector_feeds (
        store_key BIGINT NOT NULL,
        user_key BIGINT NOT NULL,
        revision BIGINT NOT NULL,
        wanted BIGINT NOT NULL,
        lease BIGINT NOT NULL,
        lease_until BIGINT NOT NULL,
        PRIMARY KEY (store_key, user_key)
    )
    """,
    """
    CREATE INDEX vector_feeds_behind ON vector_feeds (store_key, lease_until)
    WHERE wanted > revision
    """,
    # What the settings named when they were last obeyed: only a change of them moves the index.
    "CREATE TABLE vector_choice (number INTEGER PRIMARY KEY, url TEXT NOT NULL)",
)


def upgrade() -> None:
    """Add the tables."""
    run(STATEMENTS)

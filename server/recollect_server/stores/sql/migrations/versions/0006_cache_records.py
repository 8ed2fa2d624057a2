"""What people said of cached answers, and counts of lookups."""

from recollect_server.stores.sql.migrations import run

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    """
    CREATE TABLE cache_counts (
        tenant TEXT NOT NULL,
        user_id TEXT NOT NULL,
        scope SMALLINT NOT NULL,
        session_id TEXT NOT NULL,
        name TEXT NOT NULL,
        amount BIGINT NOT NULL,
        PRIMARY KEY (tenant, user_id, scope, session_id, name)
    )
    """,
    # The probability is in millionths, NULL where the verifier was not asked.
    """
    CREATE TABLE cache_feedback (
        tenant TEXT NOT NULL,
        user_id TEXT NOT NULL,
        scope SMALLINT NOT NULL,
        session_id TEXT NOT NULL,
        answer TEXT NOT NULL,
        question TEXT NOT NULL,
        entry_id TEXT NOT NULL,
        verdict SMALLINT NOT NULL,
        probability INTEGER,
        vector_model TEXT NOT NULL,
        vector BLOB,
        time BIGINT NOT NULL,
        PRIMARY KEY (tenant, user_id, scope, session_id, answer, question)
    )
    """,
)


def upgrade() -> None:
    """Add what the schema before does not have."""
    run(STATEMENTS)

"""Episodes, changes to watch, ends of sessions, and jobs for sessions."""

from recollect_server.stores.sql.migrations import run

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    "ALTER TABLE users ADD COLUMN pruned_revision BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN expire_time BIGINT",
    # The earlier one of expire_time and the end of the idle time.
    "ALTER TABLE sessions ADD COLUMN ends BIGINT",
    "ALTER TABLE sessions ADD COLUMN summary_through BIGINT NOT NULL DEFAULT 0",
    # Tokens of the messages that no summary covers.
    "ALTER TABLE sessions ADD COLUMN open_tokens BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN extracted_through BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE sessions ADD COLUMN episode_through BIGINT NOT NULL DEFAULT 0",
    """
    UPDATE sessions SET open_tokens = (
        SELECT COALESCE(SUM(token_count), 0) FROM messages
        WHERE messages.session_key = sessions.session_key
        AND messages.sequence >= sessions.window_start
    ), summary_through = window_start - 1
    """,
    "CREATE INDEX sessions_by_end ON sessions (ends) WHERE ends IS NOT NULL",
    """
    CREATE INDEX sessions_without_episode ON sessions (update_time)
    WHERE last_sequence > episode_through
    """,
    """
    CREATE TABLE changes (
        user_key BIGINT NOT NULL,
        user_revision BIGINT NOT NULL,
        number INTEGER NOT NULL,
        type SMALLINT NOT NULL,
        subject SMALLINT NOT NULL,
        session_id TEXT NOT NULL,
        item_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        snapshot BLOB,
        time BIGINT NOT NULL,
        PRIMARY KEY (user_key, user_revision, number)
    )
    """,
    "CREATE INDEX changes_by_time ON changes (time)",
    """
    CREATE TABLE episodes (
        user_key BIGINT NOT NULL,
        episode_id TEXT NOT NULL,
        session_key BIGINT NOT NULL,
        user_revision BIGINT NOT NULL,
        title TEXT NOT NULL,
        summary TEXT NOT NULL,
        model TEXT NOT NULL,
        first_sequence BIGINT NOT NULL,
        last_sequence BIGINT NOT NULL,
        start_time BIGINT NOT NULL,
        end_time BIGINT NOT NULL,
        create_time BIGINT NOT NULL,
        vector_model TEXT,
        vector BLOB,
        PRIMARY KEY (user_key, episode_id)
    )
    """,
    "CREATE INDEX episodes_by_time ON episodes (user_key, end_time, episode_id)",
    "CREATE INDEX episodes_by_session ON episodes (session_key, first_sequence)",
    "CREATE INDEX episodes_by_revision ON episodes (user_key, user_revision)",
    """
    CREATE TABLE audit_events (
        tenant TEXT NOT NULL,
        event_id TEXT NOT NULL,
        time BIGINT NOT NULL,
        user_id TEXT NOT NULL,
        key_id TEXT NOT NULL,
        method TEXT NOT NULL,
        resource TEXT NOT NULL,
        outcome TEXT NOT NULL,
        call_id TEXT NOT NULL,
        PRIMARY KEY (tenant, event_id)
    )
    """,
    "CREATE INDEX audit_events_by_time ON audit_events (tenant, time, event_id)",
    "ALTER TABLE pending_vectors RENAME COLUMN fact_id TO item_id",
    "DROP INDEX jobs_due",
    "ALTER TABLE jobs RENAME TO jobs_before",
    """
    CREATE TABLE jobs (
        job_id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        user_key BIGINT NOT NULL,
        session_key BIGINT NOT NULL,
        state TEXT NOT NULL,
        again SMALLINT NOT NULL,
        attempts INTEGER NOT NULL,
        run_time BIGINT NOT NULL,
        lease INTEGER NOT NULL,
        last_error TEXT NOT NULL,
        create_time BIGINT NOT NULL,
        UNIQUE (kind, user_key, session_key)
    )
    """,
    """
    INSERT INTO jobs SELECT job_id, kind, user_key, 0, state, 0, attempts, run_time, lease,
    last_error, create_time FROM jobs_before
    """,
    "DROP TABLE jobs_before",
    "CREATE INDEX jobs_due ON jobs (kind, run_time) WHERE state <> 'dead'",
    "CREATE INDEX jobs_by_session ON jobs (session_key) WHERE session_key <> 0",
)


def upgrade() -> None:
    """Add what the first schema does not have."""
    run(STATEMENTS)

"""Turns that any server can follow: who runs them, their events, and those that wait."""

from recollect_server.stores.sql.migrations import run

revision = "0007"
down_revision = "0006"

STATEMENTS = (
    "ALTER TABLE turns ADD COLUMN process TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE turns ADD COLUMN cancelled SMALLINT NOT NULL DEFAULT 0",
    "ALTER TABLE turns ADD COLUMN last_event BIGINT NOT NULL DEFAULT 0",
    # What was streamed of an interrupted turn, and why a failed one failed.
    "ALTER TABLE turns ADD COLUMN partial BLOB",
    "ALTER TABLE turns ADD COLUMN error BLOB",
    "CREATE INDEX turns_running ON turns (turn_id) WHERE state = 1",
    "CREATE INDEX turns_running_by_session ON turns (session_key) WHERE state = 1",
    """
    CREATE TABLE turn_events (
        user_key BIGINT NOT NULL,
        session_key BIGINT NOT NULL,
        turn_id TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        last_event BIGINT NOT NULL,
        events BLOB NOT NULL,
        create_time BIGINT NOT NULL,
        PRIMARY KEY (user_key, turn_id, attempt, last_event)
    )
    """,
    "CREATE INDEX turn_events_by_session ON turn_events (session_key)",
    "CREATE INDEX turn_events_by_time ON turn_events (create_time)",
    # Turns that wait for others of their session; ids rise, so the lowest is the next.
    """
    CREATE TABLE turn_queue (
        user_key BIGINT NOT NULL,
        session_key BIGINT NOT NULL,
        turn_id TEXT NOT NULL,
        until BIGINT NOT NULL,
        PRIMARY KEY (session_key, turn_id)
    )
    """,
)


def upgrade() -> None:
    """Add what the schemas before do not have."""
    run(STATEMENTS)

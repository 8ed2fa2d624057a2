"""Which model embeds, and since when texts wait for it."""

from recollect_server.stores.sql.migrations import run

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    # One row. `checked_through` is the last user whose vectors were looked through since the model
    # changed; NULL means all were. The model is the key, so that PostgreSQL lets it be held in
    # place while `checked_through` moves.
    "CREATE TABLE embedding (model TEXT PRIMARY KEY, checked_through BIGINT)",
    "INSERT INTO embedding (model, checked_through) VALUES ('', NULL)",
    "ALTER TABLE pending_vectors ADD COLUMN create_time BIGINT NOT NULL DEFAULT 0",
    # 1 where a vector of another model is to be replaced.
    "ALTER TABLE pending_vectors ADD COLUMN replaces SMALLINT NOT NULL DEFAULT 0",
    """
    UPDATE pending_vectors SET create_time = COALESCE((
        SELECT MIN(jobs.create_time) FROM jobs
        WHERE jobs.kind = 'embed' AND jobs.user_key = pending_vectors.user_key
    ), 0)
    """,
)


def upgrade() -> None:
    """Add the model's row and the queue's times."""
    run(STATEMENTS)

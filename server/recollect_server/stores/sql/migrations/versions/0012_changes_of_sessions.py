"""What a deleted session was is forgotten by an index, not by reading all changes of its user."""

from recollect_server.stores.sql.migrations import run

revision = "0012"
down_revision = "0011"

STATEMENTS = (
    # Only what is created or changed of a session has a snapshot: no message, fact or episode does.
    "CREATE INDEX changes_of_sessions ON changes (user_key, session_id) WHERE snapshot IS NOT NULL",
)


def upgrade() -> None:
    """Add the index."""
    run(STATEMENTS)

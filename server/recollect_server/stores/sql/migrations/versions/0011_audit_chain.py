"""Audit events are sealed into a hash chain per tenant."""

from recollect_server.stores.sql.migrations import run

revision = "0011"
down_revision = "0010"

STATEMENTS = (
    "ALTER TABLE audit_events ADD COLUMN sequence BIGINT NOT NULL DEFAULT 0",
    "ALTER TABLE audit_events ADD COLUMN salt BLOB",
    "ALTER TABLE audit_events ADD COLUMN commitment BLOB",
    "ALTER TABLE audit_events ADD COLUMN chain_hash BLOB",
    "CREATE INDEX audit_events_unsealed ON audit_events (tenant, time, event_id) "
    "WHERE sequence = 0",
    "CREATE INDEX audit_events_sealed ON audit_events (tenant, sequence) WHERE sequence > 0",
    """
    CREATE TABLE audit_seals (
        tenant TEXT NOT NULL,
        number BIGINT NOT NULL,
        first_sequence BIGINT NOT NULL,
        last_sequence BIGINT NOT NULL,
        time BIGINT NOT NULL,
        key_id TEXT NOT NULL,
        previous BLOB NOT NULL,
        events_hash BLOB NOT NULL,
        hash BLOB NOT NULL,
        signature BLOB NOT NULL,
        pruned_time BIGINT NOT NULL,
        pruned_signature BLOB NOT NULL,
        PRIMARY KEY (tenant, number)
    )
    """,
    """
    CREATE TABLE audit_sealer (
        number INTEGER PRIMARY KEY,
        holder TEXT NOT NULL,
        lease_until BIGINT NOT NULL
    )
    """,
    "INSERT INTO audit_sealer (number, holder, lease_until) VALUES (1, '', 0)",
)


def upgrade() -> None:
    """Add the columns and the tables."""
    run(STATEMENTS)

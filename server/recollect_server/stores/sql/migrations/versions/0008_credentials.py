"""Roles on single services, and when keys were last used."""

from recollect_server.stores.sql.migrations import run

revision = "0008"
down_revision = "0007"

STATEMENTS = (
    # As `admin.model.Grants` writes them; `role` holds for the others.
    "ALTER TABLE api_keys ADD COLUMN service_roles TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE api_keys ADD COLUMN last_use_time BIGINT",
)


def upgrade() -> None:
    """Add what the schemas before do not have."""
    run(STATEMENTS)

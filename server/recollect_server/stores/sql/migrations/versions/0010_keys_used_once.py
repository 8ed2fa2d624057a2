"""SQLite gives a key out once, as PostgreSQL does, also when the row that had it is gone.

Rows of other tables may outlive the session they belong to by a while, and other processes may go
by the key of a vector store that was dropped: neither must become another's.
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

KEYS = {"sessions": ("session_key", "messages"), "vector_stores": ("store_key", "vector_feeds")}
"""Table: its key, and a table whose rows may have keys above those that are left."""


def upgrade() -> None:
    """Write the tables anew, which is the only way to change a primary key in SQLite."""
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        return
    for table, (key, dependent) in KEYS.items():
        made = connection.execute(
            sa.text("SELECT type, sql FROM sqlite_master WHERE tbl_name = :table AND sql NOTNULL"),
            {"table": table},
        ).all()
        ((_, create),) = (row for row in made if row.type == "table")
        plain = f"{key} INTEGER PRIMARY KEY"
        assert plain in create
        op.execute(f"ALTER TABLE {table} RENAME TO former")
        op.execute(create.replace(plain, f"{plain} AUTOINCREMENT"))
        op.execute(f"INSERT INTO {table} SELECT * FROM former")
        last = connection.execute(
            sa.text(
                f"SELECT MAX(COALESCE((SELECT MAX({key}) FROM former), 0), "
                f"COALESCE((SELECT MAX({key}) FROM {dependent}), 0))"
            )
        ).scalar_one()
        op.execute("DROP TABLE former")
        for row in made:
            if row.type == "index":
                op.execute(row.sql)
        op.execute(f"DELETE FROM sqlite_sequence WHERE name = '{table}'")
        op.execute(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('{table}', {int(last)})")

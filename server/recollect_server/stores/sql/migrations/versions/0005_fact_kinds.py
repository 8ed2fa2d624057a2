"""Kinds of facts, digests of their words, and notices of their changes."""

import sqlalchemy as sa
from alembic import op

from recollect_server.stores.sql.fact_digest import digest
from recollect_server.stores.sql.migrations import run

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    # 6 is OTHER.
    "ALTER TABLE facts ADD COLUMN kind SMALLINT NOT NULL DEFAULT 6",
    "ALTER TABLE facts ADD COLUMN digest BLOB",
    """
    CREATE TABLE fact_notices (
        user_key BIGINT NOT NULL,
        user_revision BIGINT NOT NULL,
        fact_id TEXT NOT NULL,
        PRIMARY KEY (user_key, user_revision, fact_id)
    )
    """,
)

INDEX = "CREATE INDEX facts_by_digest ON facts (user_key, digest) WHERE is_current = 1"

BATCH = 1000


def upgrade() -> None:
    """Add what facts lack, and digest those that are there."""
    run(STATEMENTS)
    bind = op.get_bind()
    facts = sa.table(
        "facts",
        *(sa.column(name) for name in ("user_key", "fact_id", "version", "text", "digest")),
    )
    key = (facts.c.user_key, facts.c.fact_id, facts.c.version)
    next_page = sa.select(*key, facts.c.text).order_by(*key).limit(BATCH)
    page = next_page
    while rows := bind.execute(page).all():
        for *names, text in rows:
            same = (column == name for column, name in zip(key, names, strict=True))
            bind.execute(sa.update(facts).where(*same).values(digest=digest(text)))
        last = rows[-1]
        page = next_page.where(sa.tuple_(*key) > sa.tuple_(*last[:3]))
    run((INDEX,))

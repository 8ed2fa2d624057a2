"""The first schema.

Times are microseconds since 1970. Text that a caller controls and that nobody searches is in
msgpack blobs, which unlike TEXT hold any character. `revision` in a user's row is the clock of that
user's changes; `user_revision` in other rows is its value when they were written.
"""

from recollect_server.stores.sql.migrations import run

revision = "0001"
down_revision = None

TABLES = (
    """
    CREATE TABLE users (
        user_key INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        user_id TEXT NOT NULL,
        revision BIGINT NOT NULL,
        UNIQUE (tenant, user_id)
    )
    """,
    """
    CREATE TABLE sessions (
        session_key INTEGER PRIMARY KEY,
        user_key BIGINT NOT NULL,
        session_id TEXT NOT NULL,
        title TEXT NOT NULL,
        retention SMALLINT NOT NULL,
        metadata BLOB NOT NULL,
        window_size INTEGER NOT NULL,
        window_ttl BIGINT NOT NULL,
        idle_ttl BIGINT NOT NULL,
        create_time BIGINT NOT NULL,
        update_time BIGINT NOT NULL,
        revision BIGINT NOT NULL,
        last_sequence BIGINT NOT NULL,
        window_start BIGINT NOT NULL,
        summary BLOB,
        UNIQUE (user_key, session_id)
    )
    """,
    "CREATE INDEX sessions_by_update ON sessions (user_key, update_time, session_id)",
    """
    CREATE TABLE messages (
        session_key BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        user_key BIGINT NOT NULL,
        user_revision BIGINT NOT NULL,
        message_id TEXT NOT NULL,
        role SMALLINT NOT NULL,
        content BLOB NOT NULL,
        extras BLOB,
        time BIGINT NOT NULL,
        create_time BIGINT NOT NULL,
        token_count INTEGER NOT NULL,
        PRIMARY KEY (session_key, sequence)
    )
    """,
    "CREATE INDEX messages_by_revision ON messages (user_key, user_revision)",
    """
    CREATE TABLE message_vectors (
        session_key BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        user_key BIGINT NOT NULL,
        user_revision BIGINT NOT NULL,
        model TEXT NOT NULL,
        vector BLOB NOT NULL,
        PRIMARY KEY (session_key, sequence)
    )
    """,
    "CREATE INDEX message_vectors_by_revision ON message_vectors (user_key, user_revision)",
    """
    CREATE TABLE facts (
        user_key BIGINT NOT NULL,
        fact_id TEXT NOT NULL,
        version INTEGER NOT NULL,
        is_current SMALLINT NOT NULL,
        user_revision BIGINT NOT NULL,
        text TEXT NOT NULL,
        metadata BLOB NOT NULL,
        confidence DOUBLE PRECISION NOT NULL,
        valid_from BIGINT NOT NULL,
        valid_to BIGINT,
        recorded_at BIGINT NOT NULL,
        sources BLOB NOT NULL,
        superseded_by TEXT NOT NULL,
        vector_model TEXT,
        vector BLOB,
        PRIMARY KEY (user_key, fact_id, version)
    )
    """,
    "CREATE INDEX facts_by_revision ON facts (user_key, user_revision)",
    """
    CREATE INDEX facts_by_time ON facts (user_key, recorded_at, fact_id) WHERE is_current = 1
    """,
    """
    CREATE TABLE tombstones (
        user_key BIGINT NOT NULL,
        user_revision BIGINT NOT NULL,
        kind SMALLINT NOT NULL,
        item_id TEXT NOT NULL,
        PRIMARY KEY (user_key, user_revision, kind, item_id)
    )
    """,
    """
    CREATE TABLE pending_vectors (
        user_key BIGINT NOT NULL,
        user_revision BIGINT NOT NULL,
        kind SMALLINT NOT NULL,
        session_key BIGINT NOT NULL,
        sequence BIGINT NOT NULL,
        fact_id TEXT NOT NULL,
        PRIMARY KEY (user_key, user_revision, kind, session_key, sequence, fact_id)
    )
    """,
    """
    CREATE TABLE jobs (
        job_id TEXT PRIMARY KEY,
        kind TEXT NOT NULL,
        user_key BIGINT NOT NULL,
        state TEXT NOT NULL,
        attempts INTEGER NOT NULL,
        run_time BIGINT NOT NULL,
        lease INTEGER NOT NULL,
        last_error TEXT NOT NULL,
        create_time BIGINT NOT NULL,
        UNIQUE (kind, user_key)
    )
    """,
    "CREATE INDEX jobs_due ON jobs (kind, state, run_time)",
    """
    CREATE TABLE requests (
        tenant TEXT NOT NULL,
        user_id TEXT NOT NULL,
        method TEXT NOT NULL,
        request_id TEXT NOT NULL,
        digest BLOB NOT NULL,
        result BLOB NOT NULL,
        create_time BIGINT NOT NULL,
        PRIMARY KEY (tenant, user_id, method, request_id)
    )
    """,
    "CREATE INDEX requests_by_time ON requests (create_time)",
    """
    CREATE TABLE turns (
        user_key BIGINT NOT NULL,
        turn_id TEXT NOT NULL,
        session_key BIGINT NOT NULL,
        method TEXT NOT NULL,
        request_id TEXT NOT NULL,
        digest BLOB NOT NULL,
        state SMALLINT NOT NULL,
        attempt INTEGER NOT NULL,
        lease_until BIGINT NOT NULL,
        user_sequence BIGINT NOT NULL,
        reply_sequence BIGINT NOT NULL,
        model TEXT NOT NULL,
        finish_reason SMALLINT,
        usage BLOB NOT NULL,
        cost_usd DOUBLE PRECISION NOT NULL,
        cache_tier SMALLINT,
        cache_entry_id TEXT NOT NULL,
        create_time BIGINT NOT NULL,
        update_time BIGINT NOT NULL,
        PRIMARY KEY (user_key, turn_id),
        UNIQUE (user_key, method, request_id)
    )
    """,
    """
    CREATE TABLE api_keys (
        key_id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        user_id TEXT NOT NULL,
        role SMALLINT NOT NULL,
        secret_hash BLOB NOT NULL,
        create_time BIGINT NOT NULL,
        expire_time BIGINT,
        revoke_time BIGINT
    )
    """,
    "CREATE INDEX api_keys_by_time ON api_keys (tenant, create_time, key_id)",
)


def upgrade() -> None:
    """Create everything."""
    run(TABLES)

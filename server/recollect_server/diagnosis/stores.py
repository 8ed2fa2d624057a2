"""Checks of the stores: SQL, Valkey, vector stores."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from datetime import datetime
from typing import Any

from structlog.testing import capture_logs

from recollect_server.config import Durability, Settings
from recollect_server.diagnosis.finding import Finding, fail, ok, warn
from recollect_server.diagnosis.permissions import forbidden
from recollect_server.errors import InvalidArgument, Unavailable
from recollect_server.parts import StartError, open_database
from recollect_server.stores.sql.migrate import HEAD, SchemaError, current_revision
from recollect_server.stores.valkey.connect import Client, Refused, connect
from recollect_server.stores.valkey_search.index import has_search
from recollect_server.stores.vectors import VectorConnections

LARGEST_SKEW_SECONDS = 2.0


def check_sql(settings: Settings, now: datetime) -> list[Finding]:
    """Look whether the database answers, is of this version, and keeps what it acknowledges."""
    kind = "PostgreSQL" if settings.uses_postgres else "SQLite"
    try:
        revision = current_revision(settings.database_location)
    except (SchemaError, OSError) as error:
        return [fail("sql", str(error), "start it, or set DATABASE_URL right")]
    found = [_schema(settings, kind, revision)]
    if settings.durability is Durability.RELAXED:
        found.append(
            warn(
                "durability",
                "a power cut may take the last second of acknowledged writes",
                "set durability to full unless that is meant",
            )
        )
    if settings.uses_postgres:
        found += _postgres(str(settings.database_location), now)
    elif revision:
        found.append(_integrity(settings))
    return found


def _schema(settings: Settings, kind: str, revision: str) -> Finding:
    if revision > HEAD:
        text = f"{kind} has schema {revision}, this version knows {HEAD}"
        return fail("sql", text, "use a newer Recollect")
    if revision == HEAD:
        return ok("sql", f"{kind} answers and has schema {HEAD}")
    text = f"{kind} has schema {revision or 'none'}, this version wants {HEAD}"
    if settings.uses_postgres:
        return fail("sql", text, "run `recollect migrate`")
    return ok("sql", f"{text}: a server makes it so when it starts")


def _integrity(settings: Settings) -> Finding:
    import sqlite3

    try:
        with closing(sqlite3.connect(settings.sqlite_path)) as connection:
            (answer,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        answer = str(error)
    if answer == "ok":
        return ok("sql file", f"{settings.sqlite_path} is whole")
    return fail("sql file", f"{settings.sqlite_path} is damaged: {answer}", "restore a backup")


def _postgres(url: str, now: datetime) -> Iterator[Finding]:
    import psycopg

    asked = (
        "SELECT current_setting('fsync'), current_setting('full_page_writes'), clock_timestamp()"
    )
    with closing(psycopg.connect(url, connect_timeout=10)) as connection:
        row: Any = connection.execute(asked).fetchone()
    for name, value in zip(("fsync", "full_page_writes"), row, strict=False):
        if value != "on":
            yield fail(
                "durability",
                f"PostgreSQL runs with {name} = {value}: a crash may destroy all of it",
                f"set {name} = on in postgresql.conf",
            )
    yield _skew("PostgreSQL", (row[2] - now).total_seconds())


def _skew(whose: str, seconds: float) -> Finding:
    if abs(seconds) > LARGEST_SKEW_SECONDS:
        return warn(
            "clock",
            f"{whose}'s clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} "
            "this machine's",
            "synchronise both by NTP: leases and expiry times go by the clock",
        )
    return ok("clock", f"{whose}'s clock agrees with this machine's")


async def check_valkey(settings: Settings, now: datetime) -> list[Finding]:
    """Look whether each Valkey answers, is fit for what it is used for, and has its settings."""
    state = settings.state_url.get_secret_value()
    cache = settings.cache_url.get_secret_value() or state
    found = []
    if not state or not cache:
        found.append(ok("valkey", "embedded: a server starts it"))
    if state:
        found += await _valkey(state, "state", now)
    if cache and cache != state:
        found += await _valkey(cache, "cache", now)
    return found


async def _valkey(url: str, use: str, now: datetime) -> list[Finding]:
    try:
        client = connect(url)
    except ValueError as error:
        return [fail(use, str(error), f"set RECOLLECT_{use.upper()}_URL right")]
    # What went wrong is told to the log alone.
    with capture_logs() as said:
        try:
            return [each async for each in _ask(client, use, now)]
        except Unavailable as error:
            cause = next((line["error"] for line in said if "error" in line), "no answer")
            if isinstance(error, Refused):
                cause = error.text
            return [
                fail(
                    use,
                    f"{client.place(None)} does not do what it is asked: {cause}",
                    "start it, or set the URL and its password right",
                )
            ]
        finally:
            await client.close()


async def _ask(client: Client, use: str, now: datetime) -> Any:
    if missing := await forbidden(client, use):
        yield fail(
            use,
            f"{client.place(None)} forbids its user {', '.join(missing)}",
            "allow it (ACL SETUSER): docs/deployment.md says what a user needs",
        )
        return
    name, number = await _version(client)
    yield ok(use, f"{name} {number} answers at {client.place(None)}")
    seconds, micros = await client.command(None, "TIME")
    yield _skew(name, int(seconds) + int(micros) / 1e6 - now.timestamp())
    try:
        policy = await _setting(client, "maxmemory-policy")
        limit = int(await _setting(client, "maxmemory"))
        appends = await _setting(client, "appendonly")
    except Refused:
        yield warn(
            use,
            "it does not tell its settings",
            "see to it that state is never evicted (noeviction) and appended to a file",
        )
    else:
        for finding in _settings_of(use, policy, limit, appends):
            yield finding
    if use == "cache" or not client.clustered:
        module = await has_search(client)
        yield ok("search", "by its module" if module else "by exact copies in each server")


async def _version(client: Client) -> tuple[str, str]:
    try:
        lines = (await client.command(None, "INFO", "server")).decode().splitlines()
    except Refused:
        return "Valkey or Redis", "of a version that it does not tell"
    info = dict(line.split(":", 1) for line in lines if ":" in line)
    name = "Valkey" if "valkey_version" in info else "Redis"
    return name, info.get("valkey_version") or info["redis_version"]


def _settings_of(use: str, policy: str, limit: int, appends: str) -> Iterator[Finding]:
    if use == "state" and policy.startswith("allkeys"):
        yield fail(
            use,
            f"maxmemory-policy is {policy}: it would evict sessions that live nowhere else",
            "set maxmemory-policy to noeviction, and keep answers in another server (--cache-url)",
        )
    elif use == "state" and policy != "noeviction":
        yield warn(
            use,
            f"maxmemory-policy is {policy}: ephemeral sessions may be evicted",
            "set maxmemory-policy to noeviction, and keep answers in another server (--cache-url)",
        )
    if use == "cache" and policy == "noeviction" and limit:
        yield warn(
            use,
            "maxmemory-policy is noeviction: once full, it takes no answer any more",
            "set maxmemory-policy to volatile-lru",
        )
    if use == "state" and appends != "yes":
        yield warn(
            use,
            "appendonly is off: ephemeral sessions end with a restart of it",
            "set appendonly to yes",
        )


async def _setting(client: Client, name: str) -> str:
    _, value = await client.command(None, "CONFIG", "GET", name)
    return str(value.decode())


def _may_use_vector(settings: Settings) -> bool:
    """Whether PostgreSQL has the extension, or its user may create it."""
    import psycopg

    asked = (
        "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'vector') OR EXISTS ("
        "SELECT FROM pg_available_extension_versions WHERE name = 'vector' AND ("
        "(SELECT rolsuper FROM pg_roles WHERE rolname = current_user) OR "
        "trusted AND has_database_privilege(current_database(), 'CREATE')))"
    )
    url = str(settings.database_location)
    with closing(psycopg.connect(url, connect_timeout=10)) as connection:
        row: Any = connection.execute(asked).fetchone()
    return bool(row[0])


async def check_vectors(settings: Settings, dimensions: int) -> Finding:
    """Look whether the vector store answers."""
    url = settings.vector_store_url
    if url in ("", "exact:"):
        return ok("vectors", "exact, in each server's memory")
    async with AsyncExitStack() as stack:
        try:
            database = await open_database(stack, settings)
            connections = VectorConnections(
                database,
                postgres=settings.uses_postgres,
                api_key=settings.vector_store_api_key.get_secret_value(),
            )
            stack.push_async_callback(connections.close)
            with capture_logs():
                store = await asyncio.to_thread(connections, url, "recollect_doctor", dimensions)
                await store.exists()
                if url == "pgvector:" and not await asyncio.to_thread(_may_use_vector, settings):
                    return fail(
                        "vectors",
                        "PostgreSQL has no extension `vector`, and this user may not create it",
                        "install pgvector there and, as a superuser in this database, run "
                        "CREATE EXTENSION vector",
                    )
        except (InvalidArgument, Unavailable, StartError) as error:
            return fail(
                "vectors",
                f"{settings.vector_store or 'the vector store'} does not answer: {error}",
                "start it, or set its URL right; until then recall goes by words alone",
            )
    return ok("vectors", f"{url.partition(':')[0].partition('+')[0]} answers")

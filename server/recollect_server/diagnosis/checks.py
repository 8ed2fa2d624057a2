"""All checks, in the order in which their findings are told."""

import asyncio
import os
from collections.abc import Callable
from datetime import datetime

from recollect_server.config import Settings
from recollect_server.diagnosis.access import check_access
from recollect_server.diagnosis.finding import Finding
from recollect_server.diagnosis.machine import (
    check_environment,
    check_folder,
    check_limits,
    check_secrets,
    check_tls,
)
from recollect_server.diagnosis.models import check_chat, check_embedder
from recollect_server.diagnosis.stores import check_sql, check_valkey, check_vectors
from recollect_server.parts import utc_now


async def examine(settings: Settings, clock: Callable[[], datetime] = utc_now) -> list[Finding]:
    """Look at everything that the settings name, and change nothing of it.

    Args:
        clock: returns the present as an aware UTC datetime.
    """
    machine = [
        *check_environment(os.environ),
        *check_secrets(settings),
        *check_folder(settings),
        *check_tls(settings, clock()),
        *check_limits(settings),
    ]
    access = [each async for each in check_access(settings)]
    sql = await asyncio.to_thread(check_sql, settings, clock())
    valkey = await check_valkey(settings, clock())
    embedder, dimensions = await check_embedder(settings)
    vectors = [await check_vectors(settings, dimensions)] if dimensions else []
    return [*machine, *access, *sql, *valkey, *vectors, *embedder, await check_chat(settings)]

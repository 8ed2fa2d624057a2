"""Taking a user's memory from one server to another, as a stream of JSON records."""

import asyncio
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import IO, Protocol

import structlog

from recollect_server.admin.export_format import (
    VERSION,
    EpisodeRecord,
    ExportEnd,
    ExportStart,
    FactRecord,
    MessageRecord,
    Record,
    SessionRecord,
    decode_record,
    encode_record,
    refused,
)
from recollect_server.errors import Unavailable
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.portability")

IN_MEMORY = 8 * 1024 * 1024
"""Bytes of an export that are kept in memory; a longer one waits in a file without a name."""

BATCH_RECORDS = 500
BATCH_BYTES = 1024 * 1024
"""What of an import is written at once."""

TIDY_SECONDS = 60.0

Item = SessionRecord | MessageRecord | EpisodeRecord | FactRecord


class ExportStore(Protocol):
    """Reads everything of a user."""

    async def read_user(
        self, scope: Scope, write: Callable[[Record], None], *, vectors: bool
    ) -> None:
        """Give every record, from one consistent state, to `write`, which is called in a thread.

        Raises:
            NotFound: USER_NOT_FOUND.
            Unavailable: SQL is down.
        """


class ImportStore(Protocol):
    """Writes a user whom nobody sees before all is there. Raises `Unavailable` if SQL is down."""

    async def begin_import(self, scope: Scope) -> int:
        """Make a hidden user and return its key.

        Raises:
            AlreadyExists: USER_EXISTS.
            Aborted: USER_BEING_ERASED.
        """

    async def add_records(self, user_key: int, records: Sequence[Item]) -> None:
        """Store records of a hidden user.

        Raises:
            InvalidArgument: a record does not fit those before it.
        """

    async def publish(self, user_key: int, scope: Scope) -> None:
        """Make the hidden user the one of the scope, in one step. Raises as `begin_import`."""

    async def discard(self, user_key: int) -> None:
        """Remove a hidden user with all rows."""

    async def discard_abandoned(self) -> int:
        """Remove hidden users that nobody writes any more; return how many there were."""


class Exporting:
    """Streams everything kept of a user.

    The records are read at once, from one state of the database, so that a slow reader holds no
    transaction open.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, store: ExportStore, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock

    async def export(self, scope: Scope, *, vectors: bool) -> AsyncGenerator[str]:
        """Yield the records as JSON. Raises as `ExportStore`."""
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
            count = 0

            def write(record: Record) -> None:
                nonlocal count
                file.write(encode_record(record) + b"\n")
                count += 1

            now = int(self._clock().timestamp() * 1_000_000)
            write(ExportStart(VERSION, scope.user_id, now))
            await self._store.read_user(scope, write, vectors=vectors)
            write(ExportEnd(count))
            file.seek(0)
            while lines := await asyncio.to_thread(_read, file):
                for line in lines:
                    yield line.decode().rstrip("\n")


class Importing:
    """Stores what was exported, whole or not at all; `run` must be running.

    Args:
        max_message_bytes: limit of one message's text.
    """

    def __init__(self, store: ImportStore, max_message_bytes: int) -> None:
        self._store = store
        self._max_message_bytes = max_message_bytes

    async def import_(self, scope: Scope, lines: AsyncIterator[str]) -> int:
        """Store the records and return their number.

        Raises:
            InvalidArgument: a record is not as docs/export-format.md says, or the end is missing.
            AlreadyExists: USER_EXISTS.
            Aborted: USER_BEING_ERASED.
        """
        user_key = await self._store.begin_import(scope)
        try:
            count = await self._add(user_key, lines)
            await self._store.publish(user_key, scope)
        except BaseException:
            # What cannot be removed now is removed later.
            with suppress(Unavailable):
                await asyncio.shield(self._store.discard(user_key))
            raise
        return count

    async def run(self) -> None:
        """Remove what broken imports left, until cancelled."""
        while True:
            await asyncio.sleep(TIDY_SECONDS)
            try:
                if count := await self._store.discard_abandoned():
                    log.info("broken imports removed", imports=count)
            except Unavailable as error:
                log.warning("store unavailable, broken imports stay", reason=error.reason)

    async def _add(self, user_key: int, lines: AsyncIterator[str]) -> int:
        batch: list[Item] = []
        size = count = 0
        ended = False
        async for line in lines:
            if ended:
                raise refused("a record follows the last one")
            record = decode_record(line)
            count += 1
            if isinstance(record, ExportStart):
                if count > 1 or record.version != VERSION:
                    raise refused(f"the first record, and no other, is of `export` {VERSION}")
            elif count == 1:
                raise refused("the first record must be of type `export`")
            elif isinstance(record, ExportEnd):
                if record.records != count - 1:
                    raise refused(f"the end tells of {record.records} records, {count - 1} came")
                ended = True
            else:
                self._check(record)
                batch.append(record)
                size += len(line)
            if len(batch) >= BATCH_RECORDS or size >= BATCH_BYTES:
                await self._store.add_records(user_key, batch)
                batch, size = [], 0
        if not ended:
            raise refused("the last record must be of type `end`: the export is cut")
        if batch:
            await self._store.add_records(user_key, batch)
        return count

    def _check(self, record: Item) -> None:
        if isinstance(record, MessageRecord):
            texts = sum(len(v.encode()) for part in record.parts for v in part.values()
                        if isinstance(v, str))  # fmt: skip
            if texts > self._max_message_bytes:
                raise refused(f"a message is longer than {self._max_message_bytes} bytes")


def _read(file: IO[bytes]) -> list[bytes]:
    return file.readlines(BATCH_BYTES)

"""Chains of audit events: sealing them, checking them, and removing what is too old.

A seal takes the events that are visible, whatever ids or times they have, and gives them their
places: an event that is committed late comes into a later seal.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from recollect_server.admin.audit_chain import ChainEvent, Seal, Verifier
from recollect_server.admin.audit_check import Verdict, check
from recollect_server.admin.erasure import pseudonym
from recollect_server.memory.audit import Caller
from recollect_server.scope import Scope
from recollect_server.stores.codec import to_microseconds
from recollect_server.stores.sql.audit import record_event
from recollect_server.stores.sql.database import Database, Row, Transaction

PRUNE_METHOD = "recollect/PruneAudit"
ERASE_METHOD = "recollect.v1.AdminService/EraseUser"
BITE = 500
_SECOND = 1_000_000
_EVENT = (
    "event_id, time, key_id, method, outcome, call_id, user_id, resource, sequence, salt, "
    "commitment, chain_hash"
)
_SEAL = (
    "tenant, number, first_sequence, last_sequence, time, key_id, previous, events_hash, hash, "
    "signature, pruned_time, pruned_signature"
)
_LAST_SEAL = f"SELECT {_SEAL} FROM audit_seals WHERE tenant = :tenant ORDER BY number DESC LIMIT 1"


class _Overtaken(Exception):
    """An event was changed between its reading and its sealing."""


class SqlAuditChains:
    """Implements `admin.sealing.AuditChains`.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    async def lease(self, holder: str, seconds: float) -> bool:
        """See `AuditChains`."""
        now = to_microseconds(self._clock())
        rows = await self._database.write(
            lambda tx: tx.execute(
                "UPDATE audit_sealer SET holder = :holder, lease_until = :until WHERE number = 1 "
                "AND (holder = :holder OR lease_until <= :now) RETURNING 1",
                {"holder": holder, "now": now, "until": now + int(seconds * _SECOND)},
            )
        )
        return bool(rows)

    async def tenants(self) -> tuple[str, ...]:
        """See `AuditChains`."""
        rows = await self._database.read(
            lambda tx: tx.execute(
                "SELECT DISTINCT tenant FROM audit_events WHERE sequence = 0 ORDER BY tenant"
            )
        )
        return tuple(row[0] for row in rows)

    async def unsealed(self, tenant: str, limit: int) -> tuple[Seal | None, tuple[ChainEvent, ...]]:
        """See `AuditChains`."""

        def work(tx: Transaction) -> tuple[list[Row], list[Row]]:
            return (
                tx.execute(_LAST_SEAL, {"tenant": tenant}),
                tx.execute(
                    f"SELECT {_EVENT} FROM audit_events WHERE tenant = :tenant AND sequence = 0 "
                    "ORDER BY time, event_id LIMIT :limit",
                    {"tenant": tenant, "limit": limit},
                ),
            )

        head, events = await self._database.read(work)
        return (_to_seal(head[0]) if head else None), tuple(_to_event(row) for row in events)

    async def append(self, seal: Seal, events: tuple[ChainEvent, ...]) -> bool:
        """See `AuditChains`."""

        def work(tx: Transaction) -> bool:
            made = tx.execute(
                f"INSERT INTO audit_seals ({_SEAL}) SELECT :tenant, :number, :first_sequence, "
                ":last_sequence, :time, :key_id, :previous, :events_hash, :hash, :signature, 0, "
                ":none WHERE COALESCE((SELECT MAX(number) FROM audit_seals "
                "WHERE tenant = :tenant), 0) = :number - 1 RETURNING 1",
                {name: getattr(seal, name) for name in _SEAL.split(", ")} | {"none": b""},
            )
            if not made:
                return False
            tx.execute_many(
                "UPDATE audit_events SET sequence = :sequence, salt = :salt, "
                "commitment = :commitment, chain_hash = :chain_hash WHERE tenant = :tenant "
                "AND event_id = :event_id AND sequence = 0 AND user_id = :user_id "
                "AND resource = :resource",
                [
                    {
                        "tenant": seal.tenant,
                        "event_id": event.event_id,
                        "sequence": event.sequence,
                        "salt": event.salt,
                        "commitment": event.commitment,
                        "chain_hash": event.chain_hash,
                        "user_id": event.user_id,
                        "resource": event.resource,
                    }
                    for event in events
                ],
            )
            written = tx.execute(
                "SELECT COUNT(*) FROM audit_events WHERE tenant = :tenant AND sequence > 0 "
                "AND sequence >= :first AND sequence <= :last",
                {"tenant": seal.tenant, "first": seal.first_sequence, "last": seal.last_sequence},
            )
            if written[0][0] < len(events):
                # An erasure renamed the user of an event meanwhile.
                raise _Overtaken
            return True

        try:
            return await self._database.write(work)
        except _Overtaken:
            return False

    async def prunable(self, before: datetime) -> tuple[Seal, ...]:
        """See `AuditChains`."""

        def work(tx: Transaction) -> list[Row]:
            last = tx.execute(
                "SELECT tenant, MAX(number), MAX(CASE WHEN pruned_time > 0 THEN number ELSE 0 END) "
                "FROM audit_seals WHERE time < :before GROUP BY tenant",
                {"before": to_microseconds(before)},
            )
            return [
                tx.execute(
                    f"SELECT {_SEAL} FROM audit_seals WHERE tenant = :tenant AND number = :number",
                    {"tenant": tenant, "number": number},
                )[0]
                for tenant, number, checkpoint in last
                if number > checkpoint
            ]

        return tuple(_to_seal(row) for row in await self._database.read(work))

    async def begin_pruning(self, checkpoint: Seal) -> None:
        """See `AuditChains`."""

        def work(tx: Transaction) -> None:
            marked = tx.execute(
                "UPDATE audit_seals SET pruned_time = :time, pruned_signature = :signature "
                "WHERE tenant = :tenant AND number = :number AND pruned_time = 0 RETURNING 1",
                {
                    "tenant": checkpoint.tenant,
                    "number": checkpoint.number,
                    "time": checkpoint.pruned_time,
                    "signature": checkpoint.pruned_signature,
                },
            )
            if marked:
                resource = f"through seal={checkpoint.number} sequence={checkpoint.last_sequence}"
                nobody, caller = Scope(checkpoint.tenant, ""), Caller("", PRUNE_METHOD, "")
                record_event(tx, nobody, caller, resource, "OK", checkpoint.pruned_time)

        await self._database.write(work)

    async def prune(self) -> bool:
        """See `AuditChains`."""

        def work(tx: Transaction) -> bool:
            checkpoints = tx.execute(
                "SELECT tenant, MAX(number), MAX(last_sequence) FROM audit_seals "
                "WHERE pruned_time > 0 GROUP BY tenant"
            )
            for tenant, number, last in checkpoints:
                gone = tx.execute(
                    "DELETE FROM audit_events WHERE (tenant, event_id) IN (SELECT tenant, event_id "
                    "FROM audit_events WHERE tenant = :tenant AND sequence > 0 "
                    "AND sequence <= :last LIMIT :bite) RETURNING 1",
                    {"tenant": tenant, "last": last, "bite": BITE},
                )
                if gone:
                    return True
                tx.execute(
                    "DELETE FROM audit_seals WHERE tenant = :tenant AND number < :number",
                    {"tenant": tenant, "number": number},
                )
            return False

        return await self._database.write(work)

    async def heads(self, tenant: str = "") -> tuple[Seal, ...]:
        """Return the last seal of every chain, or of one tenant's."""

        def work(tx: Transaction) -> list[Row]:
            found: list[Row] = []
            for each in [tenant] if tenant else _chains(tx):
                found += tx.execute(_LAST_SEAL, {"tenant": each})
            return found

        return tuple(_to_seal(row) for row in await self._database.read(work))

    async def seals(self, tenant: str) -> tuple[Seal, ...]:
        """Return a tenant's seals by their numbers."""
        return await self._database.read(lambda tx: tuple(_Reader(tx, tenant).seals()))

    async def check(
        self, verifier: Verifier, heads: Sequence[Seal] = (), tenant: str = ""
    ) -> tuple[Verdict, ...]:
        """Check every chain, or one tenant's, as of one moment each.

        Args:
            heads: what was exported before, of any tenants.
        """
        exported = {head.tenant for head in heads}
        known = [tenant] if tenant else await self._database.read(_chains)
        tenants = sorted({*known, *(exported if not tenant else ())})

        def work(name: str) -> Callable[[Transaction], Verdict]:
            own = [head for head in heads if head.tenant == name]
            return lambda tx: check(_Reader(tx, name), verifier, own)

        return tuple([await self._database.read(work(name)) for name in tenants])

    async def events(self, tenant: str, after: tuple[int, str]) -> tuple[ChainEvent, ...]:
        """Return events by (time, id) after those given, a page at a time."""
        rows = await self._database.read(
            lambda tx: tx.execute(
                f"SELECT {_EVENT} FROM audit_events WHERE tenant = :tenant "
                "AND (time, event_id) > (:time, :event_id) ORDER BY time, event_id LIMIT :limit",
                {"tenant": tenant, "time": after[0], "event_id": after[1], "limit": BITE},
            )
        )
        return tuple(_to_event(row) for row in rows)


class _Reader:
    """Implements `admin.audit_check.Chain` within a transaction."""

    def __init__(self, tx: Transaction, tenant: str) -> None:
        self._tx = tx
        self.tenant = tenant

    def seals(self) -> Iterator[Seal]:
        return map(
            _to_seal,
            self._rows(f"SELECT {_SEAL} FROM audit_seals WHERE tenant = :tenant ORDER BY number"),
        )

    def events(self, first: int, last: int) -> Sequence[ChainEvent]:
        rows = self._rows(
            f"SELECT {_EVENT} FROM audit_events WHERE tenant = :tenant AND sequence > 0 "
            "AND sequence >= :first AND sequence <= :last ORDER BY sequence, event_id",
            first=first,
            last=last,
        )
        return [_to_event(row) for row in rows]

    def first_after(self, sequence: int) -> ChainEvent | None:
        rows = self._rows(
            f"SELECT {_EVENT} FROM audit_events WHERE tenant = :tenant AND sequence > 0 "
            "AND sequence > :sequence ORDER BY sequence, event_id LIMIT 1",
            sequence=sequence,
        )
        return _to_event(rows[0]) if rows else None

    def unsealed(self) -> int:
        return int(
            self._rows("SELECT COUNT(*) FROM audit_events WHERE tenant = :tenant AND sequence = 0")[
                0
            ][0]
        )

    def pseudonyms(self) -> Collection[str]:
        recorded = self._rows(
            "SELECT DISTINCT user_id FROM audit_events WHERE tenant = :tenant AND method = :method",
            method=ERASE_METHOD,
        )
        # An erasure that is under way has renamed users in events before it records itself.
        begun = self._tx.execute("SELECT erased FROM erasures WHERE complete = 0")
        return {row[0] for row in recorded} | {pseudonym(bytes(row[0])) for row in begun}

    def _rows(self, sql: str, **params: Any) -> list[Row]:
        return self._tx.execute(sql, params | {"tenant": self.tenant})


def _chains(tx: Transaction) -> list[str]:
    rows = tx.execute("SELECT tenant FROM audit_seals UNION SELECT tenant FROM audit_events")
    return sorted(row[0] for row in rows)


def _to_seal(row: Row) -> Seal:
    return Seal(*_plain(row))


def _to_event(row: Row) -> ChainEvent:
    *fields, salt, commitment, chain_hash = row
    return ChainEvent(*fields, *(bytes(value or b"") for value in (salt, commitment, chain_hash)))


def _plain(row: Iterable[Any]) -> list[Any]:
    """Return a row's values; one driver gives blobs as memory of its own."""
    return [value if isinstance(value, str | int) else bytes(value) for value in row]

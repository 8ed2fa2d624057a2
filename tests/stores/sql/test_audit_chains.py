"""Chains of audit events: whatever is done to a sealed row is found, and named."""

import asyncio
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest
from tests.stores.sql.support import ADA, Stores

from recollect_server.admin.audit_chain import Seal
from recollect_server.admin.audit_check import Verdict
from recollect_server.admin.sealing import BATCH, Sealing
from recollect_server.memory.audit import Caller
from recollect_server.scope import Scope
from recollect_server.stores.audit_key import AuditKey, AuditKeyError, PublicKeys
from recollect_server.stores.sql.audit import SqlAuditLog
from recollect_server.stores.sql.audit_chains import PRUNE_METHOD, SqlAuditChains
from recollect_server.stores.sql.erasing import SqlErasures

BOB = Scope("acme", "bob")
CALLER = Caller("key", "recollect.v1.MemoryService/Recall", "call")
ERASE = Caller("key", "recollect.v1.AdminService/EraseUser", "call")
SECOND = Caller("key", "recollect.v1.MemoryService/GetContext", "call")


class Audit:
    """The audit log of a database, its chains, and one who seals them."""

    def __init__(self, stores: Stores, key: AuditKey, keep: timedelta | None = None) -> None:
        self.stores = stores
        self.key = key
        self.log = SqlAuditLog(stores.database, stores.clock)
        self.chains = SqlAuditChains(stores.database, stores.clock)
        self.sealing = Sealing(self.chains, lambda: key, stores.clock, keep=keep)

    async def record(self, count: int, scope: Scope = ADA, caller: Caller = CALLER) -> None:
        for number in range(count):
            self.stores.clock.move(seconds=1)
            await self.log.record(scope, caller, f"fact_id=f{number}", "OK")

    async def verdict(self, heads: tuple[Seal, ...] = (), tenant: str = "acme") -> Verdict:
        keys = PublicKeys([self.key.public_pem])
        (verdict,) = await self.chains.check(keys, heads, tenant)
        return verdict

    async def execute(self, *statements: str, **params: object) -> None:
        for statement in statements:
            await self.stores.database.write(
                lambda tx, statement=statement: tx.execute(statement, params)
            )

    async def event_id(self, sequence: int) -> str:
        rows = await self.stores.rows(
            f"SELECT event_id FROM audit_events WHERE tenant = 'acme' AND sequence = {sequence}"
        )
        return rows[0][0]


@pytest.fixture
def key(tmp_path) -> AuditKey:
    return AuditKey.open(tmp_path / "keys")


@pytest.fixture
def audit(stores, key) -> Audit:
    return Audit(stores, key)


async def _three_seals(audit: Audit) -> None:
    for _ in range(3):
        await audit.record(4)
        await audit.sealing.seal()


async def test_a_chain_is_whole_as_it_was_written(audit):
    await _three_seals(audit)
    await audit.record(2)
    await audit.record(1, Scope("other", "ada"))
    await audit.sealing.seal()
    await audit.record(3)
    assert await audit.verdict() == Verdict("acme", 14, 4, 3, "")
    assert await audit.verdict(tenant="other") == Verdict("other", 1, 1, 0, "")
    events = await audit.log.list_events(
        "acme", user_id="", start=None, end=None, limit=99, after=None
    )
    assert [bool(event.chain_hash) for event in events] == [False] * 3 + [True] * 14
    assert len({event.chain_hash for event in events}) == 15


async def test_more_events_than_a_seal_takes_are_sealed_at_once(audit):
    async def record(_):
        await audit.log.record(ADA, CALLER, "", "OK")

    await asyncio.gather(*map(record, range(BATCH + 10)))
    await audit.sealing.seal()
    assert await audit.verdict() == Verdict("acme", BATCH + 10, 2, 0, "")


_EVENT = "WHERE tenant = 'acme' AND sequence ="
_SEAL = "WHERE tenant = 'acme' AND number ="

TAMPERED: dict[str, tuple[tuple[str, ...], str]] = {
    "the first event deleted": (
        (f"DELETE FROM audit_events {_EVENT} 1",),
        r"sequence 1 is missing",
    ),
    "an event deleted": (
        (f"DELETE FROM audit_events {_EVENT} 6",),
        r"sequence 6 is missing before event \S+ \(sequence 7\)",
    ),
    "the last event deleted": (
        (f"DELETE FROM audit_events {_EVENT} 12",),
        r"sequence 12 is missing from seal 3",
    ),
    "an event taken back to unsealed": (
        (f"UPDATE audit_events SET sequence = 0 {_EVENT} 6",),
        r"sequence 6 is missing",
    ),
    **{
        f"{column} of an event changed": (
            (f"UPDATE audit_events SET {column} = {value} {_EVENT} 6",),
            r"event ID6 \(sequence 6\) was changed or moved",
        )
        for column, value in {
            "time": "time + 1",
            "event_id": "'another'",
            "key_id": "'another'",
            "method": "'another'",
            "outcome": "'NOT_FOUND'",
            "call_id": "'another'",
            "commitment": "salt",
            "chain_hash": "salt",
        }.items()
    },
    **{
        f"{column} of an event changed": (
            (f"UPDATE audit_events SET {column} = {value} {_EVENT} 6",),
            r"event ID6 \(sequence 6\): its user_id or resource was changed",
        )
        for column, value in {
            "user_id": "'eve'",
            "resource": "'fact_id=f9'",
            "salt": "chain_hash",
        }.items()
    },
    "a user taken out without an erasure": (
        (f"UPDATE audit_events SET user_id = 'erased', resource = '', salt = NULL {_EVENT} 6",),
        r"event ID6 \(sequence 6\): its user was taken out, but no erasure is known",
    ),
    "a salt taken out": (
        (f"UPDATE audit_events SET salt = NULL {_EVENT} 6",),
        r"event ID6 \(sequence 6\): its user was taken out",
    ),
    "two events swapped": (
        (
            f"UPDATE audit_events SET sequence = 999 {_EVENT} 6",
            f"UPDATE audit_events SET sequence = 6 {_EVENT} 7",
            f"UPDATE audit_events SET sequence = 7 {_EVENT} 999",
        ),
        r"event \S+ \(sequence 6\) was changed or moved",
    ),
    "an event put in": (
        (
            "INSERT INTO audit_events (tenant, event_id, time, user_id, key_id, method, resource, "
            "outcome, call_id, sequence, salt, commitment, chain_hash) SELECT tenant, 'new', time, "
            "user_id, key_id, method, resource, outcome, call_id, sequence, salt, commitment, "
            f"chain_hash FROM audit_events {_EVENT} 6",
        ),
        r"\(sequence 6\)",
    ),
    "an event and its place taken out": (
        (
            f"DELETE FROM audit_events {_EVENT} 6",
            "UPDATE audit_events SET sequence = sequence - 1 WHERE sequence > 6",
        ),
        r"\(sequence 6\) was changed or moved",
    ),
    "the first seal deleted": ((f"DELETE FROM audit_seals {_SEAL} 1",), r"seal 1 is missing"),
    "a seal deleted": ((f"DELETE FROM audit_seals {_SEAL} 2",), r"seal 2 is missing"),
    "the last seal deleted": (
        (f"DELETE FROM audit_seals {_SEAL} 3",),
        r"event \S+ \(sequence 9\) was sealed, but seal 3 is missing",
    ),
    "a seal's time changed": (
        (f"UPDATE audit_seals SET time = time + 1 {_SEAL} 2",),
        r"seal 2 was changed",
    ),
    "a seal's hash changed": (
        (f"UPDATE audit_seals SET hash = events_hash {_SEAL} 2",),
        r"seal 2 was changed",
    ),
    "a seal's signature changed": (
        (f"UPDATE audit_seals SET signature = hash {_SEAL} 2",),
        r"seal 2: its signature is forged",
    ),
    "a seal's key changed": (
        (f"UPDATE audit_seals SET key_id = 'another' {_SEAL} 2",),
        r"seal 2 was changed",
    ),
    "a seal with its events": (
        (
            f"DELETE FROM audit_seals {_SEAL} 2",
            "DELETE FROM audit_events WHERE sequence > 4 AND sequence < 9",
        ),
        r"seal 2 is missing",
    ),
    "the beginning passed off as pruned": (
        (
            f"UPDATE audit_seals SET pruned_time = 1, pruned_signature = signature {_SEAL} 1",
            "DELETE FROM audit_events WHERE sequence > 0 AND sequence < 5",
        ),
        r"seal 1: its mark as a checkpoint is forged",
    ),
    "the beginning deleted": (
        (
            f"DELETE FROM audit_seals {_SEAL} 1",
            "DELETE FROM audit_events WHERE sequence > 0 AND sequence < 5",
        ),
        r"seal 1 is missing",
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
async def test_tampering_is_found_and_named(audit, case):
    await _three_seals(audit)
    event_id = await audit.event_id(6)
    statements, expected = TAMPERED[case]
    await audit.execute(*statements)
    problem = (await audit.verdict()).problem
    expected = expected.replace("ID6", "another" if case.startswith("event_id") else event_id)
    assert re.search(expected, problem), problem
    # And it stays so, whatever comes and is sealed afterwards.
    await audit.record(2)
    await audit.sealing.seal()
    assert (await audit.verdict()).problem


async def test_events_and_hashes_written_anew_do_not_fit_their_seal(audit):
    await _three_seals(audit)
    events = list(await audit.chains.events("acme", (0, "")))
    seal = (await audit.chains.seals("acme"))[1]
    link = seal.previous
    for event in events[4:8]:
        changed = replace(event, outcome="INTERNAL")
        link = changed.link("acme", link)
        await audit.execute(
            "UPDATE audit_events SET outcome = 'INTERNAL', chain_hash = :link "
            "WHERE event_id = :event_id",
            link=link,
            event_id=event.event_id,
        )
    problem = (await audit.verdict()).problem
    assert problem == "seal 2 is not of its events: they were written anew"
    forged = replace(seal, events_hash=link)
    await audit.execute(
        "UPDATE audit_seals SET events_hash = :events_hash, hash = :hash WHERE number = 2",
        events_hash=link,
        hash=forged.digest(),
    )
    assert (await audit.verdict()).problem == "seal 2: its signature is forged"


async def test_a_cut_tail_shows_against_an_exported_head(audit):
    await _three_seals(audit)
    heads = await audit.chains.heads()
    await audit.execute(
        "DELETE FROM audit_seals WHERE number = 3",
        "DELETE FROM audit_events WHERE sequence > 8",
    )
    assert (await audit.verdict()).problem == "", "nothing in the database tells"
    assert "its tail is missing" in (await audit.verdict(heads)).problem
    await audit.record(9)
    await audit.sealing.seal()
    assert (await audit.verdict()).problem == ""
    assert (await audit.verdict(heads)).problem == (
        "seal 3 is not the one that was exported as head"
    )


async def test_a_chain_that_was_deleted_shows_against_an_exported_head(audit):
    await _three_seals(audit)
    heads = await audit.chains.heads()
    await audit.execute("DELETE FROM audit_seals", "DELETE FROM audit_events")
    (verdict,) = await audit.chains.check(PublicKeys([audit.key.public_pem]), heads)
    assert "its tail is missing" in verdict.problem


async def test_a_head_that_was_changed_is_refused(audit):
    await _three_seals(audit)
    (head,) = await audit.chains.heads()
    assert Seal.from_json(json.loads(json.dumps(head.to_json()))) == head
    assert (await audit.verdict((head,))).problem == ""
    assert "was changed" in (await audit.verdict((replace(head, number=2),))).problem
    with pytest.raises(ValueError, match="hash"):
        Seal.from_json(head.to_json() | {"hash": 3})


async def test_seals_of_a_key_that_is_not_known_are_not_believed(audit, tmp_path):
    await _three_seals(audit)
    other = AuditKey.open(tmp_path / "other keys")
    (verdict,) = await audit.chains.check(PublicKeys([other.public_pem]), (), "acme")
    assert verdict.problem == f"seal 1 is signed by key {audit.key.key_id}, which is not known here"
    both = PublicKeys([other.public_pem, audit.key.public_pem])
    await audit.record(1)
    await Audit(audit.stores, other).sealing.seal()
    (verdict,) = await audit.chains.check(both, (), "acme")
    assert verdict == Verdict("acme", 13, 4, 0, "")


async def test_an_erased_user_leaves_the_chain_whole(audit):
    await audit.stores.session()
    for scope in (ADA, BOB, ADA):
        await audit.record(3, scope)
        await audit.sealing.seal()
    await audit.record(2)
    erasures = SqlErasures(audit.stores.database, audit.stores.clock)
    erasure = await erasures.begin(ADA, "", ERASE)
    await audit.log.record(ADA, SECOND, "fact_id=late", "ABORTED")
    while (await erasures.remove_rows(erasure)).more:
        pass
    assert (await audit.verdict()).problem == "", "while it is under way"
    assert set((await erasures.count_rows(erasure)).values()) == {0}
    await erasures.conclude(erasure)
    await erasures.complete(erasure.erasure_id)
    assert (await audit.verdict()).problem == ""
    # Nor does a call that ends afterwards bring the name back.
    await audit.log.record(ADA, SECOND, "fact_id=later", "NOT_FOUND")
    await audit.sealing.seal()
    assert await audit.verdict() == Verdict("acme", 14, 4, 0, "")
    rows = await audit.stores.rows("SELECT user_id, resource, salt FROM audit_events")
    assert not any(user == "ada" or "late" in resource for user, resource, _ in rows)
    erased = await audit.event_id(2)
    await audit.execute(
        "UPDATE audit_events SET method = 'another' WHERE event_id = :event_id", event_id=erased
    )
    assert f"event {erased} (sequence 2) was changed" in (await audit.verdict()).problem


async def test_an_event_that_an_erasure_changes_meanwhile_is_sealed_as_it_then_is(audit):
    await audit.record(2)
    await audit.record(2, BOB)
    read = audit.chains.unsealed

    async def and_erase(tenant, limit):
        found = await read(tenant, limit)
        audit.chains.unsealed = read
        erasures = SqlErasures(audit.stores.database, audit.stores.clock)
        erasure = await erasures.begin(ADA, "", ERASE)
        await erasures.remove_rows(erasure)
        await erasures.conclude(erasure)
        return found

    audit.chains.unsealed = and_erase
    await audit.sealing.seal()
    await audit.sealing.seal()
    assert await audit.verdict() == Verdict("acme", 5, 1, 0, "")


async def test_retention_leaves_a_checkpoint_from_which_the_chain_is_whole(stores, key):
    audit = Audit(stores, key, keep=timedelta(days=30))
    await _three_seals(audit)
    heads = await audit.chains.heads()
    await audit.sealing.prune()
    assert (await audit.verdict()).events == 12, "nothing is too old yet"
    stores.clock.move(days=20)
    await audit.record(4)
    await audit.sealing.seal()
    stores.clock.move(days=20)
    before = await audit.verdict()
    (old,) = await audit.chains.prunable(stores.clock() - timedelta(days=30))
    await audit.chains.begin_pruning(old.pruned(key, 1))
    assert (await audit.verdict()).problem == "", "while it is under way"
    await audit.sealing.prune()
    await audit.sealing.seal()
    assert before.events == 16
    assert await audit.verdict(heads) == Verdict("acme", 5, 2, 0, "")
    kept = await stores.rows("SELECT method, resource FROM audit_events ORDER BY sequence")
    assert kept[-1] == (PRUNE_METHOD, "through seal=3 sequence=12")
    assert len(kept) == 5
    await audit.sealing.prune()
    assert (await audit.verdict()).events == 5, "pruning again changes nothing"
    await audit.execute("DELETE FROM audit_events WHERE sequence = 13")
    assert "sequence 13 is missing" in (await audit.verdict()).problem


async def test_two_servers_seal_while_many_write(stores, other, key):
    """What each writes is sealed once, and no chain forks, even when both hold that they may."""
    audits = [Audit(stores, key), Audit(other, key)]
    written = asyncio.Event()

    async def seal(audit: Audit) -> None:
        async def always(holder, seconds):
            return True

        audit.chains.lease = always
        while not written.is_set():
            await audit.sealing.seal()
            await asyncio.sleep(0)

    async def write(audit: Audit, number: int) -> None:
        for each in range(25):
            scope = Scope("acme" if number % 2 else "other", f"user {number}")
            await audit.log.record(scope, CALLER, f"fact_id={each}", "OK")

    sealers = [asyncio.create_task(seal(audit)) for audit in audits]
    await asyncio.gather(*(write(audits[n % 2], n // 2) for n in range(16)))
    written.set()
    await asyncio.gather(*sealers)
    await audits[0].sealing.seal()
    for tenant in ("acme", "other"):
        verdict = await audits[1].verdict(tenant=tenant)
        assert (verdict.problem, verdict.events, verdict.unsealed) == ("", 200, 0)


async def test_one_process_seals_and_another_takes_over_when_it_is_gone(stores, other, key):
    one, two = (
        SqlAuditChains(stores.database, stores.clock),
        SqlAuditChains(other.database, stores.clock),
    )
    assert await one.lease("one", 30)
    assert not await two.lease("two", 30)
    stores.clock.move(seconds=20)
    assert await one.lease("one", 30)
    stores.clock.move(seconds=20)
    assert not await two.lease("two", 30)
    stores.clock.move(seconds=20)
    assert await two.lease("two", 30)
    assert not await one.lease("one", 30)


async def test_an_event_that_is_committed_late_comes_into_a_later_seal(postgres, key):
    from tests.stores.sql.support import open_database

    location = postgres.create("recollect")
    database = open_database(location)
    try:
        audit = Audit(Stores(database), key)
        with psycopg.connect(location) as late:
            late.execute(
                "INSERT INTO audit_events (tenant, event_id, time, user_id, key_id, method, "
                "resource, outcome, call_id) VALUES ('acme', '0', 1, 'ada', '', '', '', 'OK', '')"
            )
            await audit.record(3)
            await audit.sealing.seal()
            late.commit()
        assert await audit.verdict() == Verdict("acme", 3, 1, 1, "")
        await audit.sealing.seal()
        assert await audit.verdict() == Verdict("acme", 4, 2, 0, "")
        assert await audit.event_id(4) == "0"
    finally:
        await database.close()


async def test_every_head_is_appended_to_a_file(stores, key, tmp_path):
    audit = Audit(stores, key)
    file = tmp_path / "heads.jsonl"
    audit.sealing = Sealing(audit.chains, lambda: key, stores.clock, heads=file)
    await _three_seals(audit)
    heads = [Seal.from_json(json.loads(line)) for line in file.read_text().splitlines()]
    assert [head.number for head in heads] == [1, 2, 3]
    assert (await audit.verdict(tuple(heads))).problem == ""


def test_a_key_is_made_once_and_read_by_its_owner_alone(tmp_path):
    folder = tmp_path / "data"
    key = AuditKey.open(folder)
    assert AuditKey.open(folder).public_pem == key.public_pem
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text("no key")
    with pytest.raises(AuditKeyError):
        AuditKey.open(folder)


async def _throughput(audit: Audit, sealing: Callable[[], object] | None) -> float:
    """Return events a second that 16 writers record."""
    done = asyncio.Event()

    async def seal() -> None:
        while sealing is not None and not done.is_set():
            await audit.sealing.seal()
            await asyncio.sleep(0.1)

    async def write() -> None:
        for _ in range(60):
            await audit.log.record(ADA, CALLER, "fact_id=f", "OK")

    sealer = asyncio.create_task(seal())
    begun = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(16)))
    seconds = time.perf_counter() - begun
    done.set()
    await sealer
    return 16 * 60 / seconds


async def test_sealing_does_not_hold_writers_up(audit):
    """Sealing all that is written, fifty times as often as servers do, leaves most throughput."""
    ratios = []
    for _ in range(3):
        alone = await _throughput(audit, None)
        ratios.append(await _throughput(audit, audit.sealing.seal) / alone)
    print("throughput while sealing, of that without:", [f"{ratio:.2f}" for ratio in ratios])
    assert max(ratios) > 0.4
    await audit.sealing.seal()
    assert (await audit.verdict()).problem == ""


async def test_a_user_who_came_after_an_erasure_is_named_again(audit):
    await audit.stores.session()
    erasures = SqlErasures(audit.stores.database, audit.stores.clock)
    erasure = await erasures.begin(ADA, "", ERASE)
    await erasures.remove_rows(erasure)
    await erasures.conclude(erasure)
    await erasures.complete(erasure.erasure_id)
    await audit.stores.session("new life")
    await audit.record(1)
    rows = await audit.stores.rows("SELECT user_id FROM audit_events ORDER BY time DESC")
    assert rows[0][0] == "ada"

"""What a clock that was ahead leaves behind when it is put right: work that waits for its time."""

from recollect_server.stores.sql.database import Transaction

_SECOND = 1_000_000

LONGEST_AHEAD = 600 * _SECOND
"""No lease and no pause is longer, so what ends later was written by a clock that was ahead."""

GRACE = 20 * _SECOND
"""How long whoever is at the work now has to prolong its lease by the clock as it is."""

_AHEAD = (
    "UPDATE jobs SET run_time = :soon WHERE state <> 'dead' AND run_time > :far",
    "UPDATE turns SET lease_until = :soon WHERE state = 1 AND lease_until > :far",
    "UPDATE vector_feeds SET lease_until = :soon WHERE wanted > revision AND lease_until > :far",
    "UPDATE erasures SET lease_until = :soon WHERE complete = 0 AND lease_until > :far",
)


def bring_back(tx: Transaction, now: int) -> None:
    """End soon what would end too far ahead; without it, that waits until its time comes.

    Args:
        now: microseconds since 1970.
    """
    for statement in _AHEAD:
        tx.execute(statement, {"soon": now + GRACE, "far": now + LONGEST_AHEAD})

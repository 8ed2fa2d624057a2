"""The hash chain of a tenant's audit events: what is hashed, and what a seal is.

A seal covers a batch of events in an order that the sealer gives them. Every hash is SHA-256 over a
name and fields, each preceded by its length in 8 bytes, big-endian; text is UTF-8 and numbers are
decimal text. docs/audit.md describes it for whoever checks it with other tools.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol, Self

SALT_BYTES = 16
HASH_BYTES = 32
NO_SEAL = bytes(HASH_BYTES)
"""What the first seal of a tenant names as the one before it."""


@dataclass(frozen=True, slots=True)
class ChainEvent:
    """An audit event with what ties it to the others.

    Attributes:
        sequence: its place in the tenant's chain from 1; 0 until it is sealed.
        time: microseconds since 1970.
        salt: 16 random bytes that hide `user_id` and `resource` in `commitment`; empty until it is
            sealed, and again once its user was erased.
        commitment: what the chain holds in place of the personal fields; empty until sealed.
        chain_hash: hash of this event and, through the one before it, of all before.
    """

    event_id: str
    time: int
    key_id: str
    method: str
    outcome: str
    call_id: str
    user_id: str
    resource: str
    sequence: int = 0
    salt: bytes = b""
    commitment: bytes = b""
    chain_hash: bytes = b""

    def commit(self) -> bytes:
        """Return what the personal fields come to under the salt."""
        return _hash("personal", self.salt, self.user_id, self.resource)

    def link(self, tenant: str, previous: bytes) -> bytes:
        """Return the hash of this event behind the one whose hash is `previous`."""
        return _hash(
            "event",
            previous,
            tenant,
            self.sequence,
            self.event_id,
            self.time,
            self.key_id,
            self.method,
            self.outcome,
            self.call_id,
            self.commitment,
        )


class Signer(Protocol):
    """Signs what only this deployment may have written.

    Attributes:
        key_id: names the key in seals.
    """

    @property
    def key_id(self) -> str: ...

    def sign(self, data: bytes) -> bytes:
        """Return an Ed25519 signature, 64 bytes."""


class Verifier(Protocol):
    """Knows the public keys that are trusted."""

    def knows(self, key_id: str) -> bool:
        """Whether there is a key of this name."""

    def verify(self, key_id: str, signature: bytes, data: bytes) -> bool:
        """Whether the named key signed the data."""


@dataclass(frozen=True, slots=True)
class Seal:
    """A signed batch of a tenant's chain; the last one is the chain's head.

    Attributes:
        number: from 1, without gaps.
        time: when it was made, in microseconds since 1970.
        key_id: the key of `signature`.
        previous: hash of the seal before, `NO_SEAL` for the first.
        events_hash: the last event's chain hash.
        hash: of the fields above and the tenant.
        signature: of `hash`.
        pruned_time: when retention removed the events up to this seal, which then is the
            checkpoint that the chain begins with; 0 while they are there.
        pruned_signature: of the hash and `pruned_time`, empty while they are there.
    """

    tenant: str
    number: int
    first_sequence: int
    last_sequence: int
    time: int
    key_id: str
    previous: bytes
    events_hash: bytes
    hash: bytes = b""
    signature: bytes = b""
    pruned_time: int = 0
    pruned_signature: bytes = b""

    def digest(self) -> bytes:
        """Return what `hash` must be."""
        return _hash(
            "seal",
            self.tenant,
            self.number,
            self.first_sequence,
            self.last_sequence,
            self.time,
            self.key_id,
            self.previous,
            self.events_hash,
        )

    def checkpoint(self) -> bytes:
        """Return what `pruned_signature` signs."""
        return _hash("checkpoint", self.hash, self.pruned_time)

    def pruned(self, signer: Signer, now: int) -> Self:
        """Return the checkpoint that says that all events through this seal may be missing."""
        marked = replace(self, pruned_time=now)
        return replace(marked, pruned_signature=signer.sign(marked.checkpoint()))

    def to_json(self) -> dict[str, Any]:
        """Return the head as it is exported; bytes are hexadecimal."""
        names = [field.name for field in fields(self) if not field.name.startswith("pruned")]
        values = {name: getattr(self, name) for name in names}
        return {n: v.hex() if isinstance(v, bytes) else v for n, v in values.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return what `to_json` wrote.

        Raises:
            ValueError: it is not such an object.
        """
        given: dict[str, Any] = {}
        for field in fields(cls):
            if field.name.startswith("pruned"):
                continue
            found = value.get(field.name)
            expected = field.type if isinstance(field.type, type) else str
            text = isinstance(found, str) and expected is not int
            if not text and not (type(found) is int and expected is int):
                raise ValueError(f"no signed head of a chain: {field.name} is missing or wrong")
            given[field.name] = bytes.fromhex(str(found)) if expected is bytes else found
        return cls(**given)


def seal_events(
    tenant: str,
    head: Seal | None,
    events: Sequence[ChainEvent],
    salts: Iterable[bytes],
    signer: Signer,
    now: int,
) -> tuple[Seal, tuple[ChainEvent, ...]]:
    """Continue a chain.

    Args:
        head: the tenant's last seal, None before the first.
        events: at least one, in the order they are to have, none of them sealed.
        salts: a fresh one for each.
        now: microseconds since 1970.
    """
    previous = head.hash if head is not None else NO_SEAL
    first = head.last_sequence + 1 if head is not None else 1
    chained: list[ChainEvent] = []
    link = previous
    for sequence, (event, salt) in enumerate(zip(events, salts, strict=True), first):
        placed = replace(event, sequence=sequence, salt=salt)
        placed = replace(placed, commitment=placed.commit())
        link = placed.link(tenant, link)
        chained.append(replace(placed, chain_hash=link))
    seal = Seal(
        tenant=tenant,
        number=head.number + 1 if head is not None else 1,
        first_sequence=first,
        last_sequence=first + len(events) - 1,
        time=now,
        key_id=signer.key_id,
        previous=previous,
        events_hash=link,
    )
    seal = replace(seal, hash=seal.digest())
    return replace(seal, signature=signer.sign(seal.hash)), tuple(chained)


def _hash(kind: str, *values: str | int | bytes) -> bytes:
    state = hashlib.sha256()
    for value in (f"recollect.audit.{kind}.v1", *values):
        data = value if isinstance(value, bytes) else str(value).encode()
        state.update(len(data).to_bytes(8))
        state.update(data)
    return state.digest()

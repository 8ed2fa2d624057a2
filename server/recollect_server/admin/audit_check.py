"""Checks a tenant's chain of audit events, and names the first row that is wrong."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from recollect_server.admin.audit_chain import NO_SEAL, ChainEvent, Seal, Verifier


class Chain(Protocol):
    """A tenant's chain, as of one moment."""

    @property
    def tenant(self) -> str:
        """Whose it is."""

    def seals(self) -> Iterator[Seal]:
        """Return the seals by their numbers."""

    def events(self, first: int, last: int) -> Sequence[ChainEvent]:
        """Return the events with these sequences, both included, in their order."""

    def first_after(self, sequence: int) -> ChainEvent | None:
        """Return the first event that has a later sequence."""

    def unsealed(self) -> int:
        """Return how many events wait for their seal."""

    def pseudonyms(self) -> Collection[str]:
        """Return what stands for users whose erasure the log, or the database, speaks of."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found.

    Attributes:
        events: sealed events that were checked.
        seals: how many seals.
        unsealed: events that nothing protects yet.
        problem: the first thing that is wrong, "" if the chain is whole.
    """

    tenant: str
    events: int
    seals: int
    unsealed: int
    problem: str


class _Broken(Exception):
    """The chain does not hold; the message names where."""


def check(chain: Chain, verifier: Verifier, heads: Sequence[Seal]) -> Verdict:
    """Check every row of a tenant's chain.

    Args:
        heads: seals of this tenant that were exported before; the chain must hold them.
    """
    checking = _Checking(chain, verifier)
    try:
        checking.run()
        checking.compare(heads)
        problem = ""
    except _Broken as broken:
        problem = str(broken)
    return Verdict(
        chain.tenant, checking.events_seen, checking.seals_seen, chain.unsealed(), problem
    )


class _Checking:
    def __init__(self, chain: Chain, verifier: Verifier) -> None:
        self._chain = chain
        self._verifier = verifier
        self._pseudonyms = frozenset(chain.pseudonyms())
        self._hashes: dict[int, bytes] = {}
        self._begin = 0
        self._link = NO_SEAL
        self._number = 0
        self._sequence = 0
        self.events_seen = 0
        self.seals_seen = 0

    def run(self) -> None:
        seals = list(self._chain.seals())
        pruned = [seal for seal in seals if seal.pruned_time]
        if pruned:
            self._begin_after(pruned[-1])
        for seal in seals:
            if seal.number > self._begin:
                self._seal(seal)
        if left := self._chain.first_after(self._sequence):
            raise _Broken(
                f"event {left.event_id} (sequence {left.sequence}) was sealed, but seal "
                f"{self._number + 1} is missing"
            )

    def compare(self, heads: Sequence[Seal]) -> None:
        for head in heads:
            if head.hash != head.digest():
                raise _Broken(f"the exported head {head.number} was changed")
            self._signed(head, f"the exported head {head.number}")
            if head.number > self._number:
                raise _Broken(
                    f"the chain ends with seal {self._number} (sequence {self._sequence}), but "
                    f"head {head.number} (sequence {head.last_sequence}) was exported: its tail is "
                    "missing"
                )
            if head.number >= self._begin and self._hashes.get(head.number) != head.hash:
                raise _Broken(f"seal {head.number} is not the one that was exported as head")

    def _begin_after(self, seal: Seal) -> None:
        self._own(seal)
        if not self._verifier.verify(seal.key_id, seal.pruned_signature, seal.checkpoint()):
            raise _Broken(f"seal {seal.number}: its mark as a checkpoint is forged")
        self._begin = self._number = seal.number
        self._sequence = seal.last_sequence
        self._link = seal.hash
        self._hashes[seal.number] = seal.hash

    def _seal(self, seal: Seal) -> None:
        if seal.number != self._number + 1:
            raise _Broken(f"seal {self._number + 1} is missing")
        link = self._link
        events = self._chain.events(self._sequence + 1, seal.last_sequence)
        for event in events:
            self._sequence += 1
            if event.sequence > self._sequence:
                raise _Broken(
                    f"sequence {self._sequence} is missing before event {event.event_id} "
                    f"(sequence {event.sequence})"
                )
            link = self._event(event, link)
            self.events_seen += 1
        if self._sequence != seal.last_sequence:
            raise _Broken(f"sequence {self._sequence + 1} is missing from seal {seal.number}")
        if link != seal.events_hash:
            raise _Broken(f"seal {seal.number} is not of its events: they were written anew")
        if seal.previous != self._link:
            raise _Broken(f"seal {seal.number} does not follow the one before it")
        self._own(seal)
        self._number = seal.number
        self._link = seal.hash
        self._hashes[seal.number] = seal.hash
        self.seals_seen += 1

    def _event(self, event: ChainEvent, link: bytes) -> bytes:
        name = f"event {event.event_id} (sequence {event.sequence})"
        if event.sequence < self._sequence:
            raise _Broken(f"{name}: its sequence is given twice")
        computed = event.link(self._chain.tenant, link)
        if computed != event.chain_hash:
            raise _Broken(f"{name} was changed or moved")
        if event.salt:
            if event.commit() != event.commitment:
                raise _Broken(f"{name}: its user_id or resource was changed")
        elif event.resource or event.user_id not in self._pseudonyms:
            raise _Broken(f"{name}: its user was taken out, but no erasure is known")
        return computed

    def _own(self, seal: Seal) -> None:
        """Check a seal by itself."""
        if seal.hash != seal.digest():
            raise _Broken(f"seal {seal.number} was changed")
        self._signed(seal, f"seal {seal.number}")

    def _signed(self, seal: Seal, name: str) -> None:
        if not self._verifier.knows(seal.key_id):
            raise _Broken(f"{name} is signed by key {seal.key_id}, which is not known here")
        if not self._verifier.verify(seal.key_id, seal.signature, seal.hash):
            raise _Broken(f"{name}: its signature is forged")

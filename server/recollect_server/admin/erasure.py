"""Erasures of users: what is known of one, and where people's data lie."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from recollect_server.memory.audit import Caller
from recollect_server.scope import Scope

SQL = "sql"
INDEX = "index"
"""The names of stores in a receipt, beside those that `UserData.name` gives."""


@dataclass(frozen=True, slots=True)
class ErasedStore:
    """What became of a user's data in one store.

    Attributes:
        removed: how many things were removed, in all attempts.
        remaining: how many things the last search found.
        problem: why it was not searched, in one sentence; "" if it was.
    """

    removed: int = 0
    remaining: int = 0
    problem: str = ""

    @property
    def clean(self) -> bool:
        """Whether a search found nothing."""
        return not (self.remaining or self.problem)


@dataclass(frozen=True, slots=True)
class Erasure:
    """The erasure of a user, which goes on until nothing is left anywhere.

    Attributes:
        erased: the keyed digest of the user.
        scope: the user; None once nothing but the files is left to be cleaned.
        stores: the receipt so far, by the store's name.
        event_id: the audit event that records it, "" before there is one.
        create_time: from when on nobody could find the user.
    """

    erasure_id: str
    erased: bytes
    scope: Scope | None
    stores: Mapping[str, ErasedStore]
    complete: bool
    event_id: str
    create_time: datetime


def pseudonym(erased: bytes) -> str:
    """Return what the audit log calls a user who was erased."""
    return f"erased:{erased.hex()}"


class UserData(Protocol):
    """A place where data of users lie. Its methods raise `Unavailable` when it does not answer."""

    @property
    def name(self) -> str:
        """The place's name in a receipt."""

    async def erase(self, scope: Scope) -> int:
        """Remove everything of a user; return how many things there were."""

    async def count(self, scope: Scope) -> int:
        """Search the place itself for things of a user; return how many there are."""


class UserMemory(Protocol):
    """What a process remembers of users, beside any store."""

    def forget_user(self, scope: Scope) -> int:
        """Forget everything of a user, now; return how many things there were."""


@dataclass(frozen=True, slots=True)
class Bite:
    """A part of the work in SQL.

    Attributes:
        removed: rows removed, by store: SQL itself, and vector stores that are tables of it.
        more: there may be more.
    """

    removed: Mapping[str, int] = field(default_factory=dict)
    more: bool = False


class ErasureStore(Protocol):
    """Erasures and the user's rows in SQL. Every method raises `Unavailable` when SQL is down."""

    async def begin(self, scope: Scope, request_id: str, caller: Caller) -> Erasure:
        """Hide everything of a user from everybody, or return the erasure that is under way.

        From the return on no call finds the user, none can make the user anew until the erasure is
        complete, and work under way stores nothing. A repeated request gets its own erasure,
        complete or not.

        Args:
            request_id: "" for none.
        """

    async def get(self, erasure_id: str) -> Erasure:
        """Return the erasure as it is now."""

    async def open_erasures(self) -> tuple[Erasure, ...]:
        """Return those that are not complete, oldest first."""

    async def lease(self, erasure_id: str, seconds: float) -> bool:
        """Take an erasure on for some seconds; False if another process has it."""

    async def prolong(self, erasure_id: str, seconds: float) -> None:
        """Keep it for some more seconds."""

    async def remove_rows(self, erasure: Erasure) -> Bite:
        """Remove some of the user's rows and count them in the receipt, in one step."""

    async def count_rows(self, erasure: Erasure) -> Mapping[str, int]:
        """Search every table for rows of the user; return how many there are, by store."""

    async def being_fed(self, erasure: Erasure) -> bool:
        """Whether somebody may be writing vectors of the user to a vector store just now."""

    async def note(self, erasure_id: str, name: str, store: ErasedStore) -> None:
        """Put a store's numbers into the receipt; `removed` is added to what is there."""

    async def conclude(self, erasure: Erasure) -> None:
        """Record the erasure in the audit log and forget who the user was."""

    async def clean_files(self) -> None:
        """Overwrite what was removed in the database's own files."""

    async def complete(self, erasure_id: str) -> None:
        """Mark an erasure complete; the user's id may be used again."""

"""What a tenant or a user may use: limits, and how they are written."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86_400.0}
"""Seconds of the periods that a rate may be given for."""

MOST_STORED = 1_000_000_000_000
MOST_A_SECOND = 1_000_000
"""A bucket counts time in microseconds."""


class Limit(StrEnum):
    """What is limited.

    The first three are rates. `TOKENS` are a chat model's, those it read and those it wrote; a
    turn is let in while any are left, and pays what it used when it is known. The others are how
    much may be stored at once.
    """

    REQUESTS = "requests"
    MESSAGES = "messages"
    TOKENS = "tokens"
    STORED_MESSAGES = "stored_messages"
    STORED_FACTS = "stored_facts"


STORED = (Limit.STORED_MESSAGES, Limit.STORED_FACTS)

_RATE = re.compile(r"(\d+)/([a-z]+)")


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in a period: all of them at once, and each is free again a part of the period later.

    Attributes:
        most: at least 1.
        seconds: the period.
    """

    most: int
    seconds: float

    @property
    def each(self) -> float:
        """Seconds after which one more is free."""
        return self.seconds / self.most

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the rate of a text as in `50/s`, `1000/min`, `10/h` or `5000000/day`.

        Raises:
            ValueError: it is none.
        """
        match = _RATE.fullmatch(text)
        if match is None or match[2] not in UNITS:
            raise ValueError(f"{text!r} is not a rate: write it as in 50/s, with {_words(UNITS)}")
        most, seconds = int(match[1]), UNITS[match[2]]
        if not 1 <= most <= MOST_A_SECOND * seconds:
            raise ValueError(f"{text} must be at least 1 and at most {MOST_A_SECOND}/s")
        return cls(most, seconds)


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a tenant, or those of each of its users; what is missing is not limited.

    Attributes:
        stored: the most that may be stored.
    """

    rates: Mapping[Limit, Rate] = field(default_factory=dict)
    stored: Mapping[Limit, int] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the limits of a text as in `requests=50/s, stored_messages=100000`; "" has none.

        Raises:
            ValueError: what is wrong, and what would be right.
        """
        rates: dict[Limit, Rate] = {}
        stored: dict[Limit, int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = (word.strip() for word in part.partition("="))
            if name not in list(Limit):
                raise ValueError(f"{name!r} is not a limit: there are {_words(Limit)}")
            limit = Limit(name)
            if limit in rates or limit in stored:
                raise ValueError(f"{name} is given twice")
            if limit not in STORED:
                rates[limit] = Rate.parse(value)
            elif value.isdecimal() and 1 <= int(value) <= MOST_STORED:
                stored[limit] = int(value)
            else:
                raise ValueError(f"{name} must be a number from 1 to {MOST_STORED}, not {value!r}")
        return cls(rates, stored)


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """Limits of one tenant: `tenant` of all its users together, `user` of each of them."""

    tenant: Limits = field(default_factory=Limits)
    user: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class AllLimits:
    """The limits of every tenant.

    Attributes:
        default: of tenants that have none of their own.
        own: of those that have, by name.
    """

    default: TenantLimits = field(default_factory=TenantLimits)
    own: Mapping[str, TenantLimits] = field(default_factory=dict)

    def of(self, tenant: str) -> TenantLimits:
        """Return the limits of a tenant."""
        return self.own.get(tenant, self.default)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the limits of a TOML text: for all `tenant_limits` and `user_limits`, written as
        `Limits` are, and the same in tables `[tenants.NAME]`, where what is missing is as for all.

        Raises:
            ValueError: where it is wrong, and what would be right.
        """
        given = tomllib.loads(text)
        tables = given.pop("tenants", {})
        if not isinstance(tables, dict):
            raise ValueError("tenants must be tables, as in [tenants.acme]")
        default = _of_table("", given, TenantLimits())
        return cls(
            default,
            {name: _of_table(f"tenants.{name}.", it, default) for name, it in tables.items()},
        )


def _of_table(where: str, table: Any, default: TenantLimits) -> TenantLimits:
    found = {"tenant_limits": default.tenant, "user_limits": default.user}
    if not isinstance(table, dict):
        raise ValueError(f"{where[:-1]} must be a table with {_words(found)}")
    for name, text in table.items():
        if name not in found:
            raise ValueError(f"{where}{name} is not known: there are {_words(found)}")
        if not isinstance(text, str):
            raise ValueError(f'{where}{name} must be a text, as in "requests=50/s"')
        try:
            found[name] = Limits.parse(text)
        except ValueError as error:
            raise ValueError(f"{where}{name}: {error}") from error
    return TenantLimits(found["tenant_limits"], found["user_limits"])


def _words(names: Iterable[str]) -> str:
    return ", ".join(map(str, names))

"""Times that a question names from the present: yesterday, last week, three months ago."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6}
_NUMBERS |= {"seven": 7, "eight": 8, "nine": 9, "ten": 10, "couple of": 2}

_BACK = re.compile(
    rf"\b(?:(?P<number>\d{{1,2}}|{'|'.join(_NUMBERS)}) (?P<unit>day|week|month|year)s? ago"
    r"|(?P<which>last|this|previous) (?P<period>week|weekend|month|year)"
    r"|(?P<today>today|tonight|this (?:morning|afternoon|evening))"
    r"|(?P<yesterday>yesterday|last (?:night|evening))"
    rf"|(?:on|last|this past) (?P<weekday>{'|'.join(_DAYS)}))\b",
    re.IGNORECASE,
)

# A statement such as "I was in Rome yesterday" tells of a day and does not ask for what was said
# on it.
_ASKS = re.compile(
    r"\?|^\W*(?:what|who|whose|where|when|which|why|how|did|remind|recall|find|show|list|tell)\b",
    re.IGNORECASE,
)

_WORTH = {"day": 1.0, "week": 0.7, "weekend": 0.7, "month": 0.5, "year": 0.25}
"""Half of what a date in numbers is worth: what happened yesterday may be told today."""


@dataclass(frozen=True, slots=True)
class Period:
    """A time from `start` up to `end`, in seconds since 1970, and how much it says."""

    start: float
    end: float
    worth: float


def named_periods(text: str, now: datetime) -> tuple[Period, ...]:
    """Return the past times that a question names from the present, in the time zone of `now`."""
    if not _ASKS.search(text):
        return ()
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return tuple(_period(match.groupdict(), today) for match in _BACK.finditer(text))


def _period(named: dict[str, str | None], today: datetime) -> Period:
    if named["today"]:
        return _of("day", today, 0)
    if named["yesterday"]:
        return _of("day", today, 1)
    if named["weekday"]:
        back = (today.weekday() - _DAYS.index(named["weekday"].lower())) % 7
        return _of("day", today, back or 7)
    if named["period"]:
        return _of(named["period"].lower(), today, int((named["which"] or "").lower() != "this"))
    number = (named["number"] or "").lower()
    count = int(number) if number.isdigit() else _NUMBERS[number]
    return _of((named["unit"] or "").lower(), today, count)


def _of(unit: str, today: datetime, back: int) -> Period:
    """Return the day, week, weekend, month or year so many before the present one."""
    start, end = _BOUNDS[unit](today, back)
    return Period(start.timestamp(), end.timestamp(), _WORTH[unit])


def _day(today: datetime, back: int) -> tuple[datetime, datetime]:
    start = today - timedelta(days=back)
    return start, start + timedelta(days=1)


def _week(today: datetime, back: int) -> tuple[datetime, datetime]:
    start = today - timedelta(days=today.weekday() + 7 * back)
    return start, start + timedelta(days=7)


def _weekend(today: datetime, back: int) -> tuple[datetime, datetime]:
    start, end = _week(today, back)
    return start + timedelta(days=5), end


def _month(today: datetime, back: int) -> tuple[datetime, datetime]:
    return _month_start(today, back), _month_start(today, back - 1)


def _month_start(today: datetime, back: int) -> datetime:
    months = today.year * 12 + today.month - 1 - back
    return today.replace(year=months // 12, month=months % 12 + 1, day=1)


def _year(today: datetime, back: int) -> tuple[datetime, datetime]:
    start = today.replace(year=today.year - back, month=1, day=1)
    return start, start.replace(year=start.year + 1)


_BOUNDS: dict[str, Callable[[datetime, int], tuple[datetime, datetime]]] = {
    "day": _day,
    "week": _week,
    "weekend": _weekend,
    "month": _month,
    "year": _year,
}

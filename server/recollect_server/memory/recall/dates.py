"""Dates and words of time, as English texts name them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from recollect_server.memory.recall.words import listed

_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_MONTH_OF = {name: i for i, name in enumerate(_MONTHS, 1)}
_MONTH_OF |= {name[:3]: i for i, name in enumerate(_MONTHS, 1)} | {"sept": 9}

_MONTH = rf"(?P<month>{'|'.join(sorted(_MONTH_OF, key=len, reverse=True))})\b\.?"
_DAY = r"(?P<day>0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?\b"
_YEAR = r"(?P<year>(?:19|20)\d\d)\b"
_FORMS = tuple(
    re.compile(form, re.IGNORECASE)
    for form in (
        r"\b(?P<year>(?:19|20)\d\d)-(?P<month>0[1-9]|1[0-2])(?:-(?P<day>0[1-9]|[12]\d|3[01]))?\b",
        rf"\b{_DAY}\s+(?:of\s+)?{_MONTH}(?:,?\s+{_YEAR})?",
        rf"\b{_MONTH}\s+{_DAY}(?:,?\s+{_YEAR})?",
        rf"\b{_MONTH}(?:,?\s+(?:of\s+)?{_YEAR})",
        # "may" and "march" alone are more often verbs, so a lone month needs such a word before it.
        rf"\b(?:in|of|during|since|until|by|before|after|early|late|mid|last|next|this)[\s-]+{_MONTH}",
        rf"\b(?:in|of|during|since|until|by|before|after|early|late|mid)[\s-]+{_YEAR}",
    )
)

_TIME_WORDS = frozenset(_MONTHS) | listed(
    """
    monday tuesday wednesday thursday friday saturday sunday yesterday today tonight tomorrow
    ago last next since recently day days week weeks weekend weekends month months year years
    morning afternoon evening night
    """
)

_ASKS_FOR_TIME = re.compile(
    r"\bwhen\b|\b(?:what|which) (?:time|day|date|week|month|year|season)\b|\bhow long\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class NamedDate:
    """A date as far as a text names it; 0 stands for what it leaves open."""

    year: int
    month: int
    day: int


def named_dates(text: str) -> tuple[NamedDate, ...]:
    """The dates that a text names by month or year, each once, in no particular order."""
    found: set[NamedDate] = set()
    for form in _FORMS:
        rest = []
        end = 0
        for match in form.finditer(text):
            parts = match.groupdict()
            month = (parts.get("month") or "0").lower()
            found.add(
                NamedDate(
                    int(parts.get("year") or 0),
                    int(month) if month.isdigit() else _MONTH_OF[month],
                    int(parts.get("day") or 0),
                )
            )
            rest.append(text[end : match.start()])
            end = match.end()
        # What one form has read is hidden from the looser ones after it.
        text = " \n ".join([*rest, text[end:]])
    return tuple(found)


def asks_for_time(text: str) -> bool:
    """Whether the answer to this question is a time."""
    return _ASKS_FOR_TIME.search(text) is not None


def holds_time(found: Iterable[str]) -> bool:
    """Whether one of these words (as `words.words` gives them) tells a time."""
    return any(word in _TIME_WORDS or _is_year(word) for word in found)


def _is_year(word: str) -> bool:
    return len(word) == 4 and word.startswith(("19", "20")) and word.isdigit()

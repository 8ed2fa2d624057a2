"""Times that a question names from the present."""

from datetime import UTC, datetime

import pytest

from recollect_server.memory.recall.periods import named_periods

WEDNESDAY = datetime(2026, 3, 18, 15, 30, tzinfo=UTC)


def _days(text: str, now: datetime = WEDNESDAY) -> list[tuple[str, str]]:
    return [
        tuple(datetime.fromtimestamp(t, UTC).strftime("%F") for t in (period.start, period.end))
        for period in named_periods(text, now)
    ]


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("What did I eat yesterday?", "2026-03-17", "2026-03-18"),
        ("what did you say last night", "2026-03-17", "2026-03-18"),
        ("What have I told you today?", "2026-03-18", "2026-03-19"),
        ("Which film did we discuss three days ago?", "2026-03-15", "2026-03-16"),
        ("What did we plan last week?", "2026-03-09", "2026-03-16"),
        ("And a couple of weeks ago?", "2026-03-02", "2026-03-09"),
        ("Where was I last weekend?", "2026-03-14", "2026-03-16"),
        ("Remind me of this month", "2026-03-01", "2026-04-01"),
        ("What happened 4 months ago?", "2025-11-01", "2025-12-01"),
        ("How was last year?", "2025-01-01", "2026-01-01"),
        ("What did I say on Monday?", "2026-03-16", "2026-03-17"),
        ("What did I say last Wednesday?", "2026-03-11", "2026-03-12"),
    ],
)
def test_a_question_names_a_time_from_the_present(text, start, end):
    assert _days(text) == [(start, end)]


def test_a_month_back_from_january_is_of_the_year_before():
    assert _days("What did we plan last month?", datetime(2026, 1, 31, tzinfo=UTC)) == [
        ("2025-12-01", "2026-01-01")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "I was in Rome yesterday.",
        "What did I say about the Monday meeting?",
        "How long ago did she move?",
        "What will last a month?",
    ],
)
def test_other_texts_name_none(text):
    assert _days(text) == []

import pytest

from recollect_server.memory.recall.dates import (
    NamedDate,
    asks_for_time,
    holds_time,
    named_dates,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("on 8 May, 2023", NamedDate(2023, 5, 8)),
        ("on the 8th of May", NamedDate(0, 5, 8)),
        ("on May 8th", NamedDate(0, 5, 8)),
        ("on Sept. 3, 2021", NamedDate(2021, 9, 3)),
        ("in the last week of October 2023", NamedDate(2023, 10, 0)),
        ("in March", NamedDate(0, 3, 0)),
        ("since 2022", NamedDate(2022, 0, 0)),
        ("on 2024-02-29", NamedDate(2024, 2, 29)),
        ("in 2024-02", NamedDate(2024, 2, 0)),
    ],
)
def test_a_date_is_read_as_far_as_it_is_named(text: str, expected: NamedDate) -> None:
    assert named_dates(f"What happened {text}?") == (expected,)


def test_each_of_two_dates_is_read() -> None:
    found = named_dates("between 3 June and 5 July 2023")
    assert set(found) == {NamedDate(0, 6, 3), NamedDate(2023, 7, 5)}


@pytest.mark.parametrize("text", ["May I march with you?", "2000 people", "room 1984"])
def test_words_and_numbers_that_only_look_like_dates_are_none(text: str) -> None:
    assert named_dates(text) == ()


def test_when_and_how_long_ask_for_a_time() -> None:
    assert asks_for_time("When did she move?")
    assert asks_for_time("How long has he been there?")
    assert not asks_for_time("Where did she move?")


def test_a_weekday_and_a_year_tell_a_time() -> None:
    assert holds_time(["last", "friday"])
    assert holds_time(["2021"])
    assert not holds_time(["piano"])

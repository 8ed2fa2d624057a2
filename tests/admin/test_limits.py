"""How limits are written."""

import pytest

from recollect_server.admin.limits import Limit, Limits, Rate


def test_limits_are_written_as_names_and_numbers():
    limits = Limits.parse("requests=50/s, messages = 1000/min,tokens=5/day,stored_facts=7")
    assert limits.rates == {
        Limit.REQUESTS: Rate(50, 1.0),
        Limit.MESSAGES: Rate(1000, 60.0),
        Limit.TOKENS: Rate(5, 86_400.0),
    }
    assert limits.stored == {Limit.STORED_FACTS: 7}
    assert Rate(50, 1.0).each == 0.02
    assert not Limits.parse("")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("request=5/s", "'request' is not a limit: there are requests, messages"),
        ("requests", "'' is not a rate"),
        ("requests=5", "as in 50/s, with s, min, h, day"),
        ("requests=5/week", "is not a rate"),
        ("requests=0/s", "at least 1"),
        ("requests=1000001/s", "at most 1000000/s"),
        ("requests=-1/s", "is not a rate"),
        ("stored_facts=5/s", "must be a number from 1"),
        ("stored_facts=0", "must be a number from 1"),
        ("requests=5/s,requests=6/s", "requests is given twice"),
    ],
)
def test_what_is_no_limit_is_refused_with_what_would_be_right(text, wrong):
    with pytest.raises(ValueError, match=wrong):
        Limits.parse(text)

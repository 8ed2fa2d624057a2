"""Page tokens are bound to the request that made them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recollect_server.errors import InvalidArgument, Reason
from recollect_server.rpc.paging import after_time, decode, encode, page_size, time_cursor


@given(
    st.lists(st.text()).map(tuple),
    st.tuples(st.integers(-(2**62), 2**62), st.text()),
)
def test_a_token_brings_its_cursor_back(binding, cursor):
    assert decode(binding, encode(binding, cursor)) == cursor


@pytest.mark.parametrize("other", [("ListSessions", "bob"), ("ListFacts", "ada"), ()])
def test_a_token_of_another_request_is_refused(other):
    token = encode(("ListSessions", "ada"), (5, "x"))
    with pytest.raises(InvalidArgument) as caught:
        decode(other, token)
    assert caught.value.reason is Reason.INVALID_PAGE_TOKEN
    assert caught.value.violations[0][0] == "page_token"


@given(st.text(min_size=1))
def test_any_other_text_is_refused_and_nothing_else_is_raised(text):
    with pytest.raises(InvalidArgument):
        decode(("M",), text)


def test_no_token_is_the_first_page():
    assert decode(("M",), "") is None


def test_page_sizes_have_a_default_and_a_maximum():
    assert [page_size(0), page_size(7), page_size(5000)] == [100, 7, 1000]


@given(st.datetimes(datetime(1970, 1, 2), datetime(9990, 1, 1), timezones=st.just(UTC)))
def test_times_keep_their_microseconds(time):
    assert after_time(time_cursor(time, "n")) == (time, "n")


def test_a_cursor_that_is_no_time_is_refused():
    with pytest.raises(InvalidArgument):
        after_time((2**62, "n"))

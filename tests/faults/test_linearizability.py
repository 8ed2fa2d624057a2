"""The checker accepts what can be explained and refuses, with a reason, what cannot."""

import time
from itertools import permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.faults.history import (
    Append,
    Appended,
    Call,
    Other,
    Outcome,
    Read,
    Refused,
    Request,
    Seen,
    Unknown,
)
from tests.faults.linearizability import check
from tests.faults.simulated import is_linearisable, mutate, simulate

LOST = Unknown("connection lost")


def _call(invoked: int, returned: int, request: Request, outcome: Outcome | None) -> Call:
    return Call(0, "s", request, invoked, returned if outcome else None, outcome)


def _append(
    invoked: int,
    returned: int,
    text: str,
    outcome: Outcome | None,
    expected: int | None = None,
    request_id: str = "",
) -> Call:
    return _call(invoked, returned, Append(request_id or text, (text,), expected), outcome)


def _messages(invoked: int, returned: int, *texts: str) -> Call:
    return _call(invoked, returned, Read("messages"), Seen(texts=texts))


def _session(invoked: int, returned: int, revision: int) -> Call:
    return _call(invoked, returned, Read("session"), Seen(revision, revision - 1))


A = _append(1, 2, "a", Appended(1, 1, 2))
B = _append(3, 4, "b", Appended(2, 2, 3))

GOOD = {
    "nothing": [],
    "a new session": [_session(1, 2, 1), _messages(3, 4)],
    "appends and reads one after the other": [A, _session(3, 3, 2), B, _messages(5, 6, "a", "b")],
    "many messages in one step": [
        _call(1, 2, Append("r", ("a", "b", "c")), Appended(1, 3, 2)),
        _call(3, 4, Read("both"), Seen(2, 3, ("a", "b", "c"))),
    ],
    "concurrent appends in either order": [
        _append(1, 9, "a", Appended(2, 2, 3)),
        _append(2, 8, "b", Appended(1, 1, 2)),
        _messages(10, 11, "b", "a"),
    ],
    "a read beside an append that does not see it": [A, _messages(1, 3)],
    "a read beside an append that sees it": [
        _append(1, 9, "a", Appended(1, 1, 2)),
        _session(2, 3, 2),
    ],
    "an unknown append that happened": [_append(1, 2, "a", LOST), _messages(3, 4, "a")],
    "an unknown append that happened late": [
        _append(1, 2, "a", LOST),
        _session(3, 4, 1),
        _session(5, 6, 2),
    ],
    "an unknown append that never happened": [
        _append(1, 2, "x", LOST),
        _append(3, 4, "a", Appended(1, 1, 2)),
        _messages(5, 6, "a"),
    ],
    "unknown appends in the order that a later read shows": [
        *[_append(1, 2, text, LOST) for text in "abcd"],
        _messages(3, 4, "c", "a", "d"),
    ],
    "unknown appends in the order that only tails show": [
        *[_append(1, 2, text, None) for text in "abc"],
        _call(3, 4, Read("context"), Seen(3, tail=("c", "a"), tail_size=2)),
        _call(5, 6, Read("context"), Seen(4, tail=("a", "b"), tail_size=2)),
    ],
    "a repeat that is told the first result": [
        _append(1, 2, "a", LOST),
        _append(3, 4, "b", Appended(2, 2, 3)),
        _append(5, 6, "a", Appended(1, 1, 2)),
        _append(7, 8, "a", Appended(1, 1, 2)),
        _messages(9, 10, "a", "b"),
    ],
    "a refused append": [A, _append(3, 4, "x", Refused(2), 1), _messages(5, 6, "a")],
    "a repeat that is refused, so the first never happened": [
        _append(1, 2, "x", LOST, 1),
        _append(3, 4, "a", Appended(1, 1, 2)),
        _append(5, 6, "x", Refused(2), 1),
    ],
    "one of two appends with one expected revision": [
        _append(1, 9, "a", Appended(1, 1, 2), 1),
        _append(1, 9, "b", Refused(2), 1),
    ],
    "calls beside sessions": [_call(1, 2, Other("recall"), LOST), A],
}

BAD = {
    "a lost append": [A, _messages(3, 4)],
    "a lost append under later ones": [A, _append(3, 4, "b", Appended(1, 1, 2))],
    "an append stored twice": [A, _messages(3, 4, "a", "a")],
    "a repeat that was done again": [
        _append(1, 2, "a", LOST),
        _append(3, 4, "a", Appended(2, 2, 3)),
        _messages(5, 6, "a", "a"),
    ],
    "a repeat with another answer": [A, _append(3, 4, "a", Appended(2, 2, 3))],
    "a repeat refused after the append was answered": [
        _append(1, 2, "a", Appended(1, 1, 2), 1),
        _append(3, 4, "a", Refused(2), 1),
    ],
    "a repeat refused after a read showed the append": [
        _append(1, 2, "a", LOST, 1),
        _messages(3, 4, "a"),
        _append(5, 6, "a", Refused(2), 1),
    ],
    "one request id for two requests": [
        A,
        _append(3, 4, "b", Appended(1, 1, 2), request_id="a"),
    ],
    "a stale read": [A, _session(3, 4, 1)],
    "a stale read of messages": [A, B, _messages(5, 6, "a")],
    "a stale context": [
        A,
        B,
        _call(5, 6, Read("context"), Seen(2, tail=("a",), tail_size=2)),
    ],
    "a context with the right revision and old messages": [
        A,
        B,
        _call(5, 6, Read("context"), Seen(3, tail=("a",), tail_size=2)),
    ],
    "a read before the append": [_messages(0, 0, "a"), A],
    "appends stored in the wrong order": [A, B, _messages(5, 6, "b", "a")],
    "later append at an earlier place": [
        _append(1, 2, "a", Appended(2, 2, 3)),
        _append(3, 4, "b", Appended(1, 1, 2)),
    ],
    "messages of one append reordered": [
        _call(1, 2, Append("r", ("a", "b")), Appended(1, 2, 2)),
        _messages(3, 4, "b", "a"),
    ],
    "half an append": [
        _call(1, 2, Append("r", ("a", "b")), Appended(1, 2, 2)),
        _messages(1, 2, "a"),
    ],
    "half an unknown append": [_call(1, 2, Append("r", ("a", "b")), LOST), _messages(3, 4, "a")],
    "an unknown append seen and then not": [
        _append(1, 2, "a", LOST),
        _messages(3, 4, "a"),
        _messages(5, 6),
    ],
    "an unknown append seen before it was invoked": [
        _messages(1, 2, "a"),
        _append(3, 4, "a", LOST),
    ],
    "an unknown append that steps the revision without its message": [
        _append(1, 2, "a", LOST),
        _call(3, 4, Read("both"), Seen(2, 0, ())),
    ],
    "an unknown append though its expected revision was passed": [
        A,
        _append(3, 4, "x", LOST, 1),
        _messages(5, 6, "a", "x"),
    ],
    "a step of two": [A, _append(3, 4, "b", Appended(2, 2, 4))],
    "a first step of two": [_append(1, 2, "a", Appended(1, 1, 3))],
    "a gap of sequences": [A, _append(3, 4, "b", Appended(3, 3, 3))],
    "more sequences than messages": [_append(1, 2, "a", Appended(1, 2, 2))],
    "refused though equal": [_append(1, 2, "x", Refused(1), 1)],
    "refused at a revision that was never": [A, _append(3, 4, "x", Refused(7), 1)],
    "refused at a revision that was passed": [A, B, _append(5, 6, "x", Refused(2), 1)],
    "refused without a condition": [A, _append(3, 4, "x", Refused(2))],
    "refused for a later revision and stored when it came": [
        _append(1, 2, "x", Refused(1), 2),
        A,
        _messages(5, 6, "a", "x"),
    ],
    "refused and stored": [A, _append(3, 4, "x", Refused(2), 1), _messages(5, 6, "a", "x")],
    "two appends with one expected revision": [
        _append(1, 9, "a", Appended(1, 1, 2), 1),
        _append(1, 9, "b", Appended(2, 2, 3), 1),
    ],
    "two appends that made one revision": [
        _append(1, 9, "a", Appended(1, 1, 2)),
        _append(1, 9, "b", Appended(1, 1, 2)),
    ],
    "a message that nobody sent": [A, _messages(3, 4, "a", "z")],
    "two reads that show different orders": [
        _append(1, 2, "a", LOST),
        _append(1, 2, "b", LOST),
        _messages(3, 4, "a"),
        _messages(5, 6, "b", "a"),
    ],
}


@pytest.mark.parametrize("calls", GOOD.values(), ids=GOOD)
def test_it_accepts(calls):
    assert check(calls) is None
    assert is_linearisable(c for c in calls if not isinstance(c.request, Other))


@pytest.mark.parametrize("calls", BAD.values(), ids=BAD)
def test_it_refuses(calls):
    explanation = check(calls)
    assert explanation is not None
    assert "client 0" in explanation
    assert not is_linearisable(calls)


@pytest.mark.parametrize("calls", BAD.values(), ids=BAD)
def test_the_order_of_the_list_does_not_matter(calls):
    assert check(calls[::-1]) is not None


def test_an_explanation_says_where_the_order_ends_and_why():
    explanation = check([A, B, _session(5, 6, 2)])
    assert "2 of 3 operations" in explanation
    assert "revision 3 with 2 messages" in explanation
    assert "it shows revision 2" in explanation


@pytest.mark.parametrize("order", list(permutations("abc")), ids="".join)
def test_it_finds_whichever_order_of_unknown_appends_only_a_context_shows(order):
    unknown = [_append(1, 2, text, LOST) for text in "abc"]
    shown = _call(3, 4, Read("context"), Seen(4, tail=order, tail_size=3))
    assert check([*unknown, shown]) is None


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8), st.integers(0, 200))
def test_it_accepts_what_a_right_server_answers(seed, clients, steps):
    assert check(simulate(Random(seed), clients, steps)) is None


@settings(max_examples=1000, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 30))
def test_it_judges_a_changed_history_as_trying_every_order_does(seed, clients, steps):
    random = Random(seed)
    calls = mutate(random, simulate(random, clients, steps, lossy=0.15))
    assert (check(calls) is None) == is_linearisable(calls)


def test_most_changes_of_histories_are_found():
    found = 0
    for seed in range(300):
        random = Random(seed)
        found += check(mutate(random, simulate(random, 4, 200))) is not None
    assert found > 200


@pytest.mark.parametrize("seed", range(3))
def test_thousands_of_calls_of_16_clients_take_seconds(seed):
    random = Random(seed)
    calls = simulate(random, 16, 15_000, lossy=0.01)
    began = time.monotonic()
    assert check(calls) is None
    newest = max(c.outcome.revision for c in calls if isinstance(c.outcome, Appended))
    end = max(c.returned or 0 for c in calls)
    calls.append(_call(end + 1, end + 2, Read("session"), Seen(newest - 1)))
    assert check(calls) is not None
    assert len(calls) > 4000
    assert time.monotonic() - began < 20.0

"""The checks of Watch, summaries, contexts and episodes find each kind of damage."""

import pytest
from tests.faults.history import (
    Append,
    Appended,
    Call,
    Clear,
    Cleared,
    Done,
    Other,
    Outcome,
    Read,
    Request,
    Seen,
    Step,
    Unknown,
)
from tests.faults.linearizability import check
from tests.faults.watched import (
    acknowledged,
    steps_of,
    wrong_episodes,
    wrong_facts_watched,
    wrong_messages,
    wrong_order,
    wrong_steps,
    wrong_views,
)
from tests.faults.workload import Place

from recollect.v1 import common_pb2
from recollect.v1 import memory_pb2 as pb

PLACE = Place("ada", "s")
LISTED = ("a", "b", "c")


def _message(sequence: int, text: str, revision: int = 0) -> pb.WatchResponse:
    message = pb.Message(
        session_id="s", sequence=sequence, parts=[common_pb2.ContentPart(text=text)]
    )
    return _change(revision or sequence, message=message)


def _change(revision: int, **subject) -> pb.WatchResponse:
    return pb.WatchResponse(
        resume_token=f"{revision}", user_revision=revision, type=pb.CHANGE_TYPE_CREATED, **subject
    )


def _watched(*changes: pb.WatchResponse) -> list[tuple[int, pb.WatchResponse]]:
    return list(enumerate(changes))


def _session(revision: int, last: int, *, start: int = 1, through: int = 0) -> pb.WatchResponse:
    session = pb.Session(session_id="s", revision=revision, last_sequence=last, window_start=start)
    if through:
        session.summary.MergeFrom(pb.Summary(text=f"to {through}", through_sequence=through))
    change = _change(revision, session=session)
    change.type = pb.CHANGE_TYPE_UPDATED
    return change


def _call(request: Request, outcome: Outcome, at: int = 1) -> Call:
    return Call(0, PLACE.name, request, at, at + 1, outcome)


def _steps(*changes: pb.WatchResponse, calls: tuple[Call, ...] = ()) -> list[Call]:
    return steps_of(_watched(*changes), PLACE, calls)


ALL = [_message(1, "a"), _message(2, "b"), _message(3, "c")]


def test_a_watch_that_shows_each_message_once_and_in_order_is_right():
    assert wrong_order(_watched(*ALL)) == []
    assert wrong_messages(_watched(*ALL), "s", LISTED) == []


@pytest.mark.parametrize(
    "changes",
    [ALL[:2], ALL[1:], [ALL[0], ALL[2]], [*ALL, ALL[2]], [ALL[1], ALL[0], ALL[2]]],
    ids=["the last is missing", "the first is missing", "a gap", "a repeat", "out of order"],
)
def test_a_watch_with_a_gap_a_repeat_or_another_order_is_found(changes):
    assert wrong_messages(_watched(*changes), "s", LISTED)


def test_a_watch_with_another_text_is_found():
    assert wrong_messages(_watched(*ALL[:2], _message(3, "x")), "s", LISTED)


def test_revisions_that_go_back_and_repeated_changes_are_found():
    assert any("after 2" in s for s in wrong_order(_watched(ALL[1], ALL[0])))
    assert any("2 times" in s for s in wrong_order(_watched(ALL[0], ALL[0])))


def test_a_fact_must_be_watched_once():
    fact = _change(1, fact=pb.Fact(text="x"))
    assert wrong_facts_watched(_watched(fact), ["x"]) == []
    assert wrong_facts_watched(_watched(fact, fact), ["x"])
    assert wrong_facts_watched([], ["x"])


def test_summaries_that_go_on_and_clearings_are_right():
    cleared = _call(Clear(), Cleared(6))
    steps = _steps(
        _session(3, 5, through=2),
        _session(5, 6, through=4),
        _session(6, 6, start=7),
        _session(9, 9, start=7, through=8),
        calls=(cleared,),
    )
    assert wrong_steps(steps, [cleared]) == []
    assert (steps[2].invoked, steps[2].returned) == (cleared.invoked, cleared.returned)


@pytest.mark.parametrize(
    "changes",
    [
        [_session(3, 5, through=6)],
        [_session(3, 5, through=4), _session(4, 5, through=3)],
        [_session(3, 5, through=4), _session(4, 5, through=4)],
        [_session(3, 5, start=6), _session(4, 8, start=6, through=5)],
        [_session(3, 5, start=4)],
    ],
    ids=["beyond the end", "back", "again", "of what was cleared", "cleared too little"],
)
def test_a_summary_of_what_is_not_there_or_was_summarised_is_found(changes):
    assert wrong_steps(_steps(*changes), [_call(Clear(), Unknown("lost"))])


def test_clearings_that_nobody_asked_for_and_lost_ones_are_found():
    assert wrong_steps(_steps(_session(3, 5, start=6)), [])
    assert wrong_steps([], [_call(Clear(), Cleared(3))])


def _opened(revision: int, first: int, *texts: str, system: str = "") -> Call:
    last = first + len(texts) - 1 if texts else None
    shown = Seen(revision, last, open=texts, open_from=first if texts else 0, system=system)
    return _call(Read("GetContext"), shown)


STEPS = _steps(_session(5, 3, through=1))


@pytest.mark.parametrize(
    ("call", "right"),
    [
        (_opened(4, 1, "a", "b", "c"), True),
        (_opened(5, 2, "b", "c", system="<m>to 1</m>"), True),
        (_opened(5, 2, "b", "c", system="<m>to 9</m>"), False),
        (_opened(5, 2, "b", "c"), False),
        (_opened(4, 1, "a", "b", "c", system="<m>to 1</m>"), False),
        (_opened(5, 3, "c", system="to 1"), False),
        (_opened(5, 2, "b", system="to 1"), False),
        (_opened(5, 0, system="to 1"), False),
        (_opened(5, 2, "b", "x", system="to 1"), False),
        (_call(Read("GetSession"), Seen(5, 3, through=1)), True),
        (_call(Read("GetSession"), Seen(5, 3, through=0)), False),
        (_call(Read("GetSession"), Seen(4, 3, through=1)), False),
    ],
)
def test_a_read_must_show_the_summary_of_its_revision_and_all_after_it(call, right):
    assert (wrong_views(STEPS, [call], LISTED) == []) is right


@pytest.mark.parametrize(
    ("spans", "right"),
    [
        ([(1, 2), (3, 3)], True),
        ([(3, 3), (1, 2)], True),
        ([(1, 2)], False),
        ([(2, 3)], False),
        ([(1, 2), (2, 3)], False),
        ([(1, 1), (3, 3)], False),
        ([(1, 4)], False),
        ([], False),
    ],
)
def test_episodes_must_cover_a_session_without_overlap_or_gap(spans, right):
    episodes = [pb.Episode(first_sequence=first, last_sequence=last) for first, last in spans]
    assert (wrong_episodes(episodes, 3) == []) is right


def _append(at: int, text: str, revision: int, sequence: int) -> Call:
    return _call(Append(text, (text,)), Appended(sequence, sequence, revision), at)


def _step(at: int, step: Step, revision: int, last: int) -> Call:
    return _call(step, Appended(last + 1, last, revision), at)


def _tail(at: int, revision: int, *texts: str) -> Call:
    return _call(Read("GetContext"), Seen(revision, tail=texts, tail_size=5), at)


def test_the_checker_places_summaries_and_clearings_where_they_were():
    calls = [
        _append(1, "a", 2, 1),
        _step(3, Step(1, 1, "to 1"), 3, 1),
        _tail(5, 3, "a"),
        _step(7, Step(2), 4, 1),
        _tail(9, 4),
        _append(11, "b", 5, 2),
        _tail(13, 5, "b"),
    ]
    assert check(calls) is None
    assert check([*calls[:-1], _tail(13, 5, "a", "b")]), "what was cleared is shown"
    assert check(calls[:3] + calls[4:]), "a step is missing"
    assert check([*calls, _step(15, Step(1, 2, "to 2"), 7, 2)]), "a step too far"


def test_appends_facts_and_clearings_that_were_answered_are_acknowledged():
    calls = [
        _append(1, "a", 2, 1),
        _call(Other("Remember"), Done(1)),
        _call(Other("Recall"), Done()),
        _call(Clear(), Cleared(3)),
        _call(Clear(), Unknown("lost")),
    ]
    assert acknowledged(calls) == 3

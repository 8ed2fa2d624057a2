"""The checks after a load find each kind of damage, and leave a sound history alone."""

import json

import grpc
import pytest
from tests.faults.connection import outcome_of
from tests.faults.history import (
    Append,
    Appended,
    Done,
    Failed,
    History,
    Other,
    Read,
    Refused,
    Seen,
    Unknown,
)
from tests.faults.verify import broken_promises, wrong_facts

from recollect import errors

TEXTS = ("a", "b", "c")


def _history(*listed: str) -> History:
    """Return a history of three appends of one client and of a last read of `listed`."""
    history = History()
    for sequence, text in enumerate(TEXTS, 1):
        call = history.begin(0, "s", Append(text, (text,)))
        history.end(call, Appended(sequence, sequence, sequence + 1))
    history.end(history.begin(1, "s", Read("ListMessages")), Seen(texts=listed))
    return history


def test_a_sound_history_breaks_no_promise():
    assert broken_promises(_history(*TEXTS), "s", TEXTS) == []


@pytest.mark.parametrize(
    ("listed", "complaint"),
    [
        (("a", "b"), "not there"),
        (("a", "b", "c", "c"), "stored 2 times"),
        (("a", "c", "b"), "not there"),
        ((), "not there"),
    ],
)
def test_what_is_lost_repeated_or_reordered_is_named(listed, complaint):
    broken = broken_promises(_history(*listed), "s", listed)
    assert any(complaint in sentence for sentence in broken)
    assert any("client 1" in sentence for sentence in broken), "the checker must see it too"


def test_appends_that_are_not_in_their_clients_order_are_named():
    history = History()
    for text, sequence in [("b", 2), ("a", 1)]:
        call = history.begin(0, "s", Append(text, (text,)))
        history.end(call, Appended(sequence, sequence, sequence + 1))
    assert any("not in its order" in s for s in broken_promises(history, "s", ("a", "b")))


def test_a_call_that_never_ended_is_named():
    history = _history(*TEXTS)
    history.begin(2, "s", Read("GetSession"))
    (sentence,) = broken_promises(history, "s", TEXTS)
    assert "never ended" in sentence


def test_an_acknowledged_fact_is_stored_once():
    assert wrong_facts(["x"], ["y", "x"]) == []
    assert wrong_facts(["x"], ["y"]) == ["fact stored 0 times: x"]
    assert wrong_facts(["x"], ["x", "x"]) == ["fact stored 2 times: x"]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, Unknown),
        (grpc.StatusCode.DEADLINE_EXCEEDED, Unknown),
        (grpc.StatusCode.CANCELLED, Unknown),
        (grpc.StatusCode.INTERNAL, Failed),
        (grpc.StatusCode.UNKNOWN, Failed),
        (grpc.StatusCode.NOT_FOUND, Failed),
        (grpc.StatusCode.ABORTED, Failed),
        (grpc.StatusCode.FAILED_PRECONDITION, Failed),
    ],
)
def test_only_a_lost_connection_leaves_the_outcome_unknown(code, kind):
    assert isinstance(outcome_of(errors.from_call(code, "", {})), kind)


def test_a_refusal_tells_the_current_revision():
    error = errors.RevisionMismatch(grpc.StatusCode.ABORTED, "", metadata={"current_revision": "7"})
    assert outcome_of(error) == Refused(7)


def test_a_history_is_written_as_json_lines_with_kinds(tmp_path):
    history = _history(*TEXTS)
    history.end(history.begin(3, "", Other("Remember")), Done(4))
    file = tmp_path / "calls.jsonl"
    history.dump(file)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["kind"], line["ended"]) for line in lines[2:]] == [
        ("Append", "Appended"),
        ("Read", "Seen"),
        ("Other", "Done"),
    ]
    assert history.counts() == {"appended": 3, "seen": 1, "done": 1}

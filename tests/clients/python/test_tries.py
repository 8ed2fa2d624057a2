"""How long the clients try again: calls by count, streams that broke by time."""

import math
import time

import grpc
import pytest

from recollect._settings import MOST_TRIES, Tries
from recollect.errors import DeadlineExceeded, Internal, Unavailable

AWAY = Unavailable(grpc.StatusCode.UNAVAILABLE, "away")
PATIENCE = 0.2


def made(tries: Tries, patience: float | None) -> int:
    """Return how often something is tried that finds no server."""
    for count in range(1, 1000):
        try:
            assert 0 <= tries.pause_after(AWAY, patience) <= 1
        except Unavailable:
            return count
        time.sleep(0.001)
    return 1000


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_call_is_tried_five_times(timeout):
    assert made(Tries(timeout), None) == MOST_TRIES == 5


def test_a_stream_without_a_timeout_goes_on_for_its_patience_from_the_break_on():
    tries = Tries(None)
    time.sleep(PATIENCE)
    broke = time.monotonic()
    assert made(tries, PATIENCE) > MOST_TRIES
    assert time.monotonic() - broke >= PATIENCE


def test_what_came_begins_the_patience_anew():
    tries = Tries(None)
    made(tries, PATIENCE)
    tries.reset()
    assert made(tries, PATIENCE) > MOST_TRIES


@pytest.mark.parametrize("patience", [0.0, math.inf])
def test_a_stream_with_a_timeout_goes_on_until_then(patience):
    tries = Tries(PATIENCE)
    assert tries.left is not None
    ends = time.monotonic() + tries.left
    while time.monotonic() <= ends:
        time.sleep(tries.pause_after(AWAY, patience))
    with pytest.raises(DeadlineExceeded):
        _ = tries.left


def test_the_tries_of_a_stream_do_not_count_as_those_of_a_call():
    tries = Tries(None)
    for _ in range(2 * MOST_TRIES):
        tries.pause_after(AWAY, math.inf)
    assert made(tries, None) == MOST_TRIES


@pytest.mark.parametrize("patience", [None, math.inf])
def test_no_other_failure_is_tried_again(patience):
    failure = Internal(grpc.StatusCode.INTERNAL, "no")
    with pytest.raises(Internal):
        Tries(None).pause_after(failure, patience)

"""The judge of answers finds each kind of bad one, and requests are what they are said to be."""

from contextlib import suppress
from random import Random

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from tests.fuzz.fuzzer import Memory
from tests.fuzz.mutation import MOST, mutate
from tests.fuzz.requests import generate, request
from tests.fuzz.target import FIXED, METHODS, Answer, wrong

from recollect_server.errors import NotFound, Reason
from recollect_server.rpc.status import DETAILS_KEY, to_status

RECALL = next(method for method in METHODS if method.name == "Recall")
LIST = next(method for method in METHODS if method.name == "ListFacts")
_, STATUS = to_status(NotFound(Reason.FACT_NOT_FOUND, "fact", "f"), "call")
TRAILING = {DETAILS_KEY: STATUS.SerializeToString()}


@pytest.mark.parametrize(
    "answer",
    [
        Answer(grpc.StatusCode.INTERNAL, "internal error", TRAILING),
        Answer(grpc.StatusCode.UNKNOWN, "Unexpected <class 'ValueError'>", TRAILING),
        Answer(grpc.StatusCode.INVALID_ARGUMENT, "KeyError: 'x'", TRAILING),
        Answer(grpc.StatusCode.UNAVAILABLE, "Socket closed"),
        Answer(grpc.StatusCode.NOT_FOUND, "gone", {DETAILS_KEY: b"\xff"}),
        Answer(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"),
    ],
)
def test_a_bad_answer_is_found(answer):
    assert wrong(LIST, answer)


def test_a_good_answer_is_not():
    assert not wrong(LIST, Answer(grpc.StatusCode.OK))
    assert not wrong(LIST, Answer(grpc.StatusCode.NOT_FOUND, "fact 'f' does not exist", TRAILING))
    assert not wrong(RECALL, Answer(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded"))


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_generated_requests_are_mostly_messages_and_not_all_alike(method):
    parse = GetMessageClass(method.input_type).FromString
    made = generate(request(method.input_type, FIXED), 30, 1)
    good = []
    for data in made:
        with suppress(DecodeError):
            good.append(parse(data))
    assert len(good) > len(made) / 2
    if method.input_type.fields:
        assert len({message.SerializeToString() for message in good}) > 3


def test_mutated_requests_differ_and_stay_small():
    random, pool = Random(1), [b"\x0a\x03ada\x12\x05hello", b"\x0a\x03bob"]
    mutants = {mutate(random, pool[0], pool) for _ in range(200)}
    assert len(mutants) > 100
    assert max(map(len, mutants)) <= MOST


def test_growth_is_told_from_a_jump():
    grows, jumps = Memory(0), Memory(0)
    for number in range(40):
        grows.samples.append((number * 10_000, 300 + number))
        jumps.samples.append((number * 10_000, 300 + 20 * (number > 5) + number % 2))
    assert grows.growth()[1] == pytest.approx(10)
    assert abs(jumps.growth()[1]) < 0.2

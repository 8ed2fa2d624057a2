"""A timestamp or duration that protobuf forbids is refused by its field, in every request."""

from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from tests.fuzz.target import METHODS, path_of
from tests.harness import details

from recollect.v1 import memory_pb2
from recollect_server.rpc.times import MOST_ITEMS, malformed_times

TIMES = ("google.protobuf.Timestamp", "google.protobuf.Duration")


def _paths(descriptor: Descriptor) -> Iterator[tuple[str, ...]]:
    """Yield the path of every time in a request."""
    for field in descriptor.fields:
        if field.message_type is None:
            continue
        if field.message_type.full_name in TIMES:
            yield (field.name,)
        else:
            yield from ((field.name, *rest) for rest in _paths(field.message_type))


CASES = [(method, path) for method in METHODS for path in _paths(method.input_type)]


@pytest.mark.parametrize(
    ("method", "path"), CASES, ids=[f"{m.name}-{'.'.join(path)}" for m, path in CASES]
)
def test_a_time_that_is_none_is_refused_by_its_field(server, method, path):
    if method.client_streaming:
        pytest.skip("its requests are a stream")
    for seconds, nanos in ((0, 1_000_000_000), (2**63 - 1, 0), (-(2**63), 0)):
        request = GetMessageClass(method.input_type)()
        holder, name = request, ""
        for part in path:
            holder, repeated = getattr(holder, part), hasattr(getattr(holder, part), "add")
            holder = holder.add() if repeated else holder
            name += f".{part}[0]" if repeated else f".{part}"
        holder.seconds, holder.nanos = seconds, nanos
        code, _, trailing = server.raw(path_of(method)[1:], request.SerializeToString())
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        bad = details(trailing, error_details_pb2.BadRequest)
        assert [violation.field for violation in bad.field_violations] == [name[1:]]


@pytest.mark.parametrize(
    ("seconds", "nanos", "right"),
    [
        (-62_135_596_800, 0, True),
        (253_402_300_799, 999_999_999, True),
        (-62_135_596_801, 0, False),
        (253_402_300_800, 0, False),
        (0, -1, False),
    ],
)
def test_timestamps_are_of_the_years_1_to_9999(seconds, nanos, right):
    request = memory_pb2.ListMessagesRequest(start_time={"seconds": seconds, "nanos": nanos})
    assert (not list(malformed_times(request))) is right


@pytest.mark.parametrize(
    ("seconds", "nanos", "right"),
    [
        (315_576_000_000, 0, True),
        (-1, -999_999_999, True),
        (0, -1, True),
        (315_576_000_001, 0, False),
        (1, -1, False),
        (-1, 1, False),
        (0, 1_000_000_000, False),
    ],
)
def test_durations_are_of_one_sign_and_10_000_years(seconds, nanos, right):
    request = memory_pb2.CreateSessionRequest(idle_ttl={"seconds": seconds, "nanos": nanos})
    assert (not list(malformed_times(request))) is right


def test_a_list_longer_than_any_may_be_is_refused_without_going_through_it(server):
    request = memory_pb2.AppendMessagesRequest(user_id="ada", session_id="s")
    wrong = memory_pb2.NewMessage()
    wrong.time.nanos = 1_000_000_000
    request.messages.extend([wrong] * (MOST_ITEMS + 1))
    assert not tuple(malformed_times(request))
    method = "recollect.v1.MemoryService/AppendMessages"
    code, _, trailing = server.raw(method, request.SerializeToString())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    bad = details(trailing, error_details_pb2.BadRequest)
    assert [violation.field for violation in bad.field_violations] == ["messages"]

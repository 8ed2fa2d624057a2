"""The table from domain errors to gRPC statuses."""

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2

from recollect.v1 import common_pb2
from recollect_server import errors
from recollect_server.errors import Reason, RecollectError
from recollect_server.rpc.status import STATUS_OF, internal_status, to_status


def _unpack(status, kind):
    found = [d for d in status.details if d.Is(kind.DESCRIPTOR)]
    assert len(found) == 1, f"{kind.DESCRIPTOR.name}: {len(found)}"
    detail = kind()
    found[0].Unpack(detail)
    return detail


CASES = [
    (errors.InvalidArgument("messages[0].role", "must be set"), grpc.StatusCode.INVALID_ARGUMENT),
    (errors.InvalidFields((("a", "b"), ("c", "d"))), grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFound(Reason.SESSION_NOT_FOUND, "session", "s"), grpc.StatusCode.NOT_FOUND),
    (errors.AlreadyExists(Reason.FACT_EXISTS, "fact", "f"), grpc.StatusCode.ALREADY_EXISTS),
    (errors.RevisionMismatch(3, 5), grpc.StatusCode.ABORTED),
    (errors.Aborted(Reason.TURN_IN_PROGRESS, "m"), grpc.StatusCode.ABORTED),
    (
        errors.FailedPrecondition(Reason.REQUEST_ID_REUSED, "m"),
        grpc.StatusCode.FAILED_PRECONDITION,
    ),
    (errors.OutOfRange(Reason.RESUME_TOKEN_EXPIRED, "m"), grpc.StatusCode.OUT_OF_RANGE),
    (errors.Unauthenticated(Reason.CREDENTIAL_MISSING, "m"), grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDenied(Reason.OTHER_USER, "m"), grpc.StatusCode.PERMISSION_DENIED),
    (errors.ResourceExhausted(Reason.QUOTA_EXCEEDED, "m", 2), grpc.StatusCode.RESOURCE_EXHAUSTED),
    (
        errors.QuotaExceeded(
            limit="requests", whose="user", name="a", most=5, seconds=1, retry_after=0.2
        ),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ),
    (errors.Unavailable(Reason.STORE_UNAVAILABLE, "m", 0.5), grpc.StatusCode.UNAVAILABLE),
    (errors.DeadlineExceeded(Reason.DEADLINE_PASSED, "m"), grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Cancelled(Reason.TURN_CANCELLED, "m"), grpc.StatusCode.CANCELLED),
]


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda value: type(value).__name__)
def test_each_error_has_its_code_its_reason_and_the_call_id(error, code):
    got, status = to_status(error, "call-1")
    assert got is code
    assert status.code == code.value[0]
    assert status.message == error.message
    info = _unpack(status, error_details_pb2.ErrorInfo)
    assert (info.domain, info.reason) == ("recollect", error.reason)
    assert _unpack(status, error_details_pb2.RequestInfo).request_id == "call-1"


def test_every_domain_error_is_in_the_table_and_in_the_cases():
    defined = {
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, RecollectError) and kind is not RecollectError
    }
    assert defined == set(STATUS_OF)
    assert defined == {type(error) for error, _ in CASES}


def test_reasons_are_those_of_the_contract():
    prefix = "ERROR_REASON_"
    contract = {
        name.removeprefix(prefix) for name in common_pb2.ErrorReason.DESCRIPTOR.values_by_name
    }
    assert contract - {"UNSPECIFIED"} == {reason.value for reason in Reason}


def test_bad_fields_are_listed():
    _, status = to_status(errors.InvalidFields((("a", "b"), ("c", "d"))), "call")
    bad = _unpack(status, error_details_pb2.BadRequest)
    assert [(v.field, v.description) for v in bad.field_violations] == [("a", "b"), ("c", "d")]


def test_a_revision_mismatch_says_the_current_revision():
    _, status = to_status(errors.RevisionMismatch(3, 5), "call")
    info = _unpack(status, error_details_pb2.ErrorInfo)
    assert info.metadata == {"current_revision": "5"}


def test_retry_info_carries_the_seconds():
    _, status = to_status(errors.Unavailable(Reason.MODEL_OVERLOADED, "m", 1.5), "call")
    delay = _unpack(status, error_details_pb2.RetryInfo).retry_delay
    assert delay.ToTimedelta().total_seconds() == 1.5


def test_an_unexpected_exception_leaves_only_its_call_id():
    code, status = internal_status("call-9")
    assert code is grpc.StatusCode.INTERNAL
    assert status.message == "internal error, call id call-9"
    assert _unpack(status, error_details_pb2.ErrorInfo).reason == "INTERNAL"


MOST_METADATA_BYTES = 8 * 1024
"""What gRPC's clients take by default, Java's to the byte."""

LONG = "é" * 70_000
MANY = tuple((f"messages[{number}].{LONG}", LONG) for number in range(1000))


@pytest.mark.parametrize(
    "error",
    [
        errors.InvalidFields(MANY),
        errors.InvalidFields(tuple((f"kinds[{number}]", "no") for number in range(10_000))),
        errors.InvalidArgument(LONG, LONG),
        errors.NotFound(Reason.SESSION_NOT_FOUND, "session", LONG),
        errors.FailedPrecondition(Reason.REQUEST_ID_REUSED, LONG),
        errors.Unavailable(Reason.STORE_UNAVAILABLE, LONG, 0.5),
    ],
)
def test_an_error_fits_into_what_clients_read(error):
    _, status = to_status(error, "c" * 128)
    percent_encoded = 3 * len(status.message.encode())
    base64 = -(-status.ByteSize() // 3) * 4
    assert percent_encoded + base64 < MOST_METADATA_BYTES - 512
    assert _unpack(status, error_details_pb2.ErrorInfo).reason == error.reason


def test_violations_that_do_not_fit_are_counted():
    wrong = tuple((f"kinds[{number}]", "no") for number in range(10_000))
    _, status = to_status(errors.InvalidFields(wrong), "call")
    *shown, rest = _unpack(status, error_details_pb2.BadRequest).field_violations
    assert [(v.field, v.description) for v in shown] == list(wrong[: len(shown)])
    assert len(shown) > 50
    assert (rest.field, rest.description) == ("", f"{10_000 - len(shown)} more fields are wrong")


def test_a_quota_names_the_limit_whose_it_is_and_when_to_come_back():
    error = errors.QuotaExceeded(
        limit="messages", whose="user", name="é" * 1000, most=5, seconds=60, retry_after=0.25
    )
    _, status = to_status(error, "c")
    info = _unpack(status, error_details_pb2.ErrorInfo)
    assert info.reason == "QUOTA_EXCEEDED"
    assert info.metadata == {"limit": "messages", "of": "user", "maximum": "5", "seconds": "60"}
    (violation,) = _unpack(status, error_details_pb2.QuotaFailure).violations
    assert violation.subject.startswith("user:éé")
    assert violation.description == "the user's limit of 5 messages in 60 seconds is used up"
    retry = _unpack(status, error_details_pb2.RetryInfo).retry_delay
    assert retry.ToTimedelta().total_seconds() == 0.25


def test_a_quota_of_what_is_stored_says_no_time():
    error = errors.QuotaExceeded(
        limit="stored_facts", whose="tenant", name="t", most=5, seconds=None, retry_after=None
    )
    _, status = to_status(error, "c")
    assert status.message == "the tenant's limit of 5 stored facts is used up"
    info = _unpack(status, error_details_pb2.ErrorInfo)
    assert info.metadata == {"limit": "stored_facts", "of": "tenant", "maximum": "5"}
    assert not any(d.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for d in status.details)

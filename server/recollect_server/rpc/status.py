"""The one table from domain errors to gRPC statuses, with their rich details."""

from datetime import timedelta
from typing import Any

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from recollect_server import errors
from recollect_server.errors import RecollectError

DOMAIN = "recollect"

STATUS_OF: dict[type[RecollectError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidFields: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.RevisionMismatch: grpc.StatusCode.ABORTED,
    errors.Aborted: grpc.StatusCode.ABORTED,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.QuotaExceeded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
}

DETAILS_KEY = "grpc-status-details-bin"
"""Trailing metadata that carries google.rpc.Status, as every gRPC stack knows it."""

# Clients refuse trailing metadata of more than 8 KiB, and code and reason with it. It holds the
# message twice, once with 3 bytes for each that is not ASCII, and the details in base64.
MOST_TEXT_BYTES = 800
MOST_VIOLATION_BYTES = 2400


def _shortened(text: str, most: int = MOST_TEXT_BYTES) -> str:
    """Return a text of at most so many bytes of UTF-8."""
    data = text.encode()
    if len(data) <= most:
        return text
    return data[: most - len("…".encode())].decode(errors="ignore") + "…"


def _bad_request(error: errors.InvalidArgument) -> error_details_pb2.BadRequest:
    """Return the violations in their order, as many as fit; a last one counts the others."""
    found = error_details_pb2.BadRequest()
    left = MOST_VIOLATION_BYTES
    for number, (field, description) in enumerate(error.violations):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_shortened(field), description=_shortened(description), reason=error.reason
        )
        left -= violation.ByteSize()
        if left < 0:
            more = f"{len(error.violations) - number} more fields are wrong"
            found.field_violations.add(description=more, reason=error.reason)
            break
        found.field_violations.append(violation)
    return found


def _details(error: RecollectError) -> list[Message]:
    found: list[Message] = []
    match error:
        case errors.InvalidArgument():
            found.append(_bad_request(error))
        case errors.NotFound() | errors.AlreadyExists():
            found.append(
                error_details_pb2.ResourceInfo(
                    resource_type=f"{DOMAIN}.{error.resource}",
                    resource_name=_shortened(error.name),
                )
            )
        case errors.FailedPrecondition():
            found.append(
                error_details_pb2.PreconditionFailure(
                    violations=[
                        error_details_pb2.PreconditionFailure.Violation(
                            type=error.reason, description=_shortened(error.message)
                        )
                    ]
                )
            )
        case errors.Unavailable() | errors.ResourceExhausted() if error.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromTimedelta(timedelta(seconds=error.retry_after))
            found.append(retry)
        case _:
            pass
    if isinstance(error, errors.QuotaExceeded):
        subject = f"{error.whose}:{_shortened(error.name)}"
        violation = error_details_pb2.QuotaFailure.Violation(
            subject=subject, description=error.message
        )
        found.append(error_details_pb2.QuotaFailure(violations=[violation]))
    return found


def _metadata(error: RecollectError) -> dict[str, str]:
    if isinstance(error, errors.RevisionMismatch):
        return {"current_revision": str(error.current)}
    if isinstance(error, errors.QuotaExceeded):
        period = {} if error.seconds is None else {"seconds": f"{error.seconds:g}"}
        return {"limit": error.limit, "of": error.whose, "maximum": str(error.most)} | period
    return {}


def to_status(error: RecollectError, call_id: str) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """Return the code and the google.rpc.Status of a domain error.

    Args:
        call_id: the call's id, for RequestInfo.
    """
    code = STATUS_OF[type(error)]
    info = error_details_pb2.ErrorInfo(
        reason=error.reason, domain=DOMAIN, metadata=_metadata(error)
    )
    details = [
        info,
        *_details(error),
        error_details_pb2.RequestInfo(request_id=call_id),
    ]
    return code, _status(code, _shortened(error.message), details)


def internal_status(call_id: str) -> tuple[grpc.StatusCode, status_pb2.Status]:
    """Return the status of an unexpected exception: the call id and nothing of the exception."""
    code = grpc.StatusCode.INTERNAL
    details: list[Message] = [
        error_details_pb2.ErrorInfo(reason=errors.Reason.INTERNAL, domain=DOMAIN),
        error_details_pb2.RequestInfo(request_id=call_id),
    ]
    return code, _status(code, f"internal error, call id {call_id}", details)


def _status(code: grpc.StatusCode, message: str, details: list[Message]) -> status_pb2.Status:
    packed = []
    for detail in details:
        wrapped = any_pb2.Any()
        wrapped.Pack(detail)
        packed.append(wrapped)
    number: Any = code_pb2.Code.Value(code.name)
    return status_pb2.Status(code=number, message=message, details=packed)

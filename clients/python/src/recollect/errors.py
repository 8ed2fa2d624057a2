"""What a failed call raises: one class for each gRPC status, with the server's rich details."""

from collections.abc import Mapping

import grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_CALL_ID_KEY = "x-request-id"


class RecollectError(Exception):
    """A call failed.

    Attributes:
        code: the gRPC status.
        reason: the name of an `ErrorReason` without its prefix, as in `SESSION_NOT_FOUND`; "" if
            the error did not come from the server itself.
        message: one sentence for people.
        field_violations: (field, what would be right) of each bad field.
        retry_after: seconds after which to try again, if the server said so.
        metadata: more about the reason.
        call_id: the call's, to look for in the server's log; it is not the request's `request_id`.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        reason: str = "",
        field_violations: tuple[tuple[str, str], ...] = (),
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        call_id: str = "",
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code = code
        self.message = message
        self.reason = reason
        self.field_violations = field_violations
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})
        self.call_id = call_id


class InvalidArgument(RecollectError):
    """A field of the request is wrong; see `field_violations`."""


class NotFound(RecollectError):
    """What the request names does not exist for this user."""


class AlreadyExists(RecollectError):
    """The chosen id is taken."""


class Aborted(RecollectError):
    """Another writer was first; the same call may succeed later."""


class RevisionMismatch(Aborted):
    """The session is not at `expected_revision`, or the fact not at `expected_version`."""

    @property
    def current_revision(self) -> int:
        """The session's revision, or the fact's version, now."""
        return int(self.metadata["current_revision"])


class FailedPrecondition(RecollectError):
    """The system's state forbids the call."""


class OutOfRange(RecollectError):
    """A position lies before what is kept."""


class Unauthenticated(RecollectError):
    """No API key, or one that is not valid."""


class PermissionDenied(RecollectError):
    """The API key may not do this."""


class ResourceExhausted(RecollectError):
    """A quota or a size limit is reached."""


class Unavailable(RecollectError):
    """The server, or a part that the call needs, cannot be reached."""


class DeadlineExceeded(RecollectError):
    """The call took longer than its timeout."""


class Cancelled(RecollectError):
    """The call was cancelled."""


class Closed(Cancelled):
    """The client was closed before the call, or while it ran."""

    def __init__(self) -> None:
        super().__init__(grpc.StatusCode.CANCELLED, "the client is closed")


class Unimplemented(RecollectError):
    """This server does not serve the method yet."""


class Internal(RecollectError):
    """A defect of the server; report it with `call_id`."""


class Unknown(RecollectError):
    """The server failed without saying how."""


_CLASS_OF: dict[grpc.StatusCode, type[RecollectError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.ABORTED: Aborted,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.OUT_OF_RANGE: OutOfRange,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
    grpc.StatusCode.UNIMPLEMENTED: Unimplemented,
    grpc.StatusCode.INTERNAL: Internal,
}


def from_call(
    code: grpc.StatusCode, message: str, trailing: Mapping[str, str | bytes]
) -> RecollectError:
    """Return the exception of a failed call.

    Args:
        trailing: the call's trailing metadata.
    """
    kind = _CLASS_OF.get(code, Unknown)
    fields: tuple[tuple[str, str], ...] = ()
    reason, metadata, retry_after = "", {}, None
    call_id = str(trailing.get(_CALL_ID_KEY, ""))
    info, bad, retry = (
        error_details_pb2.ErrorInfo(),
        error_details_pb2.BadRequest(),
        error_details_pb2.RetryInfo(),
    )
    for detail in _status(code, trailing).details:
        if detail.Unpack(info):
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):
            fields = tuple((v.field, v.description) for v in bad.field_violations)
        elif detail.Unpack(retry):
            retry_after = retry.retry_delay.ToTimedelta().total_seconds()
    if reason == "REVISION_MISMATCH" and "current_revision" in metadata:
        kind = RevisionMismatch
    return kind(
        code,
        message,
        reason=reason,
        field_violations=fields,
        retry_after=retry_after,
        metadata=metadata,
        call_id=call_id,
    )


def _status(code: grpc.StatusCode, trailing: Mapping[str, str | bytes]) -> status_pb2.Status:
    data = trailing.get(_DETAILS_KEY)
    if not isinstance(data, bytes):
        return status_pb2.Status()
    status = status_pb2.Status.FromString(data)
    return status if status.code == code_pb2.Code.Value(code.name) else status_pb2.Status()

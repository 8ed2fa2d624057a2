"""Every error the domain raises on purpose.

`rpc/status.py` maps each class to a gRPC status; a test walks the two so that neither can grow
without the other. A message here is written for the caller and may leave the server, so it never
holds message text, a secret or another exception's text.
"""

from enum import StrEnum


class Reason(StrEnum):
    """Machine-readable cause; the names of `recollect.v1.ErrorReason` without their prefix."""

    INVALID_FIELD = "INVALID_FIELD"
    UNDECODABLE_REQUEST = "UNDECODABLE_REQUEST"
    INVALID_PAGE_TOKEN = "INVALID_PAGE_TOKEN"
    SESSION_NOT_FOUND = "SESSION_NOT_FOUND"
    SESSION_EXISTS = "SESSION_EXISTS"
    FACT_NOT_FOUND = "FACT_NOT_FOUND"
    FACT_EXISTS = "FACT_EXISTS"
    EPISODE_NOT_FOUND = "EPISODE_NOT_FOUND"
    CACHE_ENTRY_NOT_FOUND = "CACHE_ENTRY_NOT_FOUND"
    TURN_NOT_FOUND = "TURN_NOT_FOUND"
    API_KEY_NOT_FOUND = "API_KEY_NOT_FOUND"
    JOB_NOT_FOUND = "JOB_NOT_FOUND"
    USER_NOT_FOUND = "USER_NOT_FOUND"
    USER_EXISTS = "USER_EXISTS"
    USER_BEING_ERASED = "USER_BEING_ERASED"
    REVISION_MISMATCH = "REVISION_MISMATCH"
    REQUEST_ID_REUSED = "REQUEST_ID_REUSED"
    TURN_IN_PROGRESS = "TURN_IN_PROGRESS"
    RESUME_TOKEN_EXPIRED = "RESUME_TOKEN_EXPIRED"
    REVISION_NOT_INDEXED = "REVISION_NOT_INDEXED"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    CREDENTIAL_MISSING = "CREDENTIAL_MISSING"
    CREDENTIAL_INVALID = "CREDENTIAL_INVALID"
    ROLE_REQUIRED = "ROLE_REQUIRED"
    OTHER_USER = "OTHER_USER"
    GLOBAL_SCOPE_OFF = "GLOBAL_SCOPE_OFF"
    SESSION_EPHEMERAL = "SESSION_EPHEMERAL"
    QUOTA_EXCEEDED = "QUOTA_EXCEEDED"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    MODEL_UNAVAILABLE = "MODEL_UNAVAILABLE"
    MODEL_OVERLOADED = "MODEL_OVERLOADED"
    MODEL_RATE_LIMITED = "MODEL_RATE_LIMITED"
    MODEL_REFUSED = "MODEL_REFUSED"
    MODEL_REJECTED = "MODEL_REJECTED"
    CONTEXT_TOO_LONG = "CONTEXT_TOO_LONG"
    MODEL_CREDENTIAL = "MODEL_CREDENTIAL"
    TURN_TIMED_OUT = "TURN_TIMED_OUT"
    TURN_CANCELLED = "TURN_CANCELLED"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    INTERNAL = "INTERNAL"


class RecollectError(Exception):
    """Base of all expected errors.

    Args:
        reason: machine-readable cause.
        message: one sentence for the caller: what is wrong and what would be right.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class InvalidArgument(RecollectError):
    """A field of the request is wrong whatever the server's state.

    Args:
        field: path of the field in the request, as in `messages[2].parts`.
        description: what would be right.
    """

    def __init__(self, field: str, description: str, reason: Reason = Reason.INVALID_FIELD) -> None:
        super().__init__(reason, f"{field}: {description}" if field else description)
        self.violations: tuple[tuple[str, str], ...] = ((field, description),)


class InvalidFields(InvalidArgument):
    """Several fields are wrong; `violations` lists (field, description) in the request's order."""

    def __init__(self, violations: tuple[tuple[str, str], ...]) -> None:
        field, description = violations[0]
        super().__init__(field, description)
        self.violations = violations


class NotFound(RecollectError):
    """The named resource does not exist in the caller's scope."""

    def __init__(self, reason: Reason, resource: str, name: str) -> None:
        super().__init__(reason, f"{resource} {name!r} does not exist")
        self.resource = resource
        self.name = name


class AlreadyExists(RecollectError):
    """The caller chose an id that is taken."""

    def __init__(self, reason: Reason, resource: str, name: str) -> None:
        super().__init__(reason, f"{resource} {name!r} already exists")
        self.resource = resource
        self.name = name


class RevisionMismatch(RecollectError):
    """A session's revision, or a fact's version, is not the expected one: read again and retry.

    Args:
        field: the request's, `expected_revision` or `expected_version`.
        resource: what it is about.
    """

    def __init__(
        self,
        expected: int,
        current: int,
        field: str = "expected_revision",
        resource: str = "session",
    ) -> None:
        word = field.removeprefix("expected_")
        super().__init__(
            Reason.REVISION_MISMATCH,
            f"{field} is {expected}, the {resource} is at {word} {current}",
        )
        self.expected = expected
        self.current = current


class Aborted(RecollectError):
    """Another writer is in the way; the same call may succeed later."""


class FailedPrecondition(RecollectError):
    """The system's state forbids the call; repeating it as it is will not help."""


class OutOfRange(RecollectError):
    """A position lies before what is kept."""


class Unauthenticated(RecollectError):
    """No credential, or one that is not valid."""


class PermissionDenied(RecollectError):
    """A valid credential that may not do this."""


class ResourceExhausted(RecollectError):
    """A quota or a model's rate limit is used up."""

    def __init__(self, reason: Reason, message: str, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after


class QuotaExceeded(ResourceExhausted):
    """A limit of the tenant or of the user is used up.

    Args:
        limit: its name, as in `requests`.
        whose: `tenant` or `user`.
        name: that tenant or user.
        most: how many are allowed, in so many `seconds` or, where those are None, at all.
        retry_after: seconds until the same call is let in, None where time alone does not help.
    """

    def __init__(
        self,
        *,
        limit: str,
        whose: str,
        name: str,
        most: int,
        seconds: float | None,
        retry_after: float | None,
    ) -> None:
        period = f" in {seconds:g} seconds" if seconds is not None else ""
        message = f"the {whose}'s limit of {most} {limit.replace('_', ' ')}{period} is used up"
        super().__init__(Reason.QUOTA_EXCEEDED, message, retry_after)
        self.limit = limit
        self.whose = whose
        self.name = name
        self.most = most
        self.seconds = seconds


class Unavailable(RecollectError):
    """A part the call needs is down.

    Args:
        retry_after: seconds after which a retry makes sense, if known.
    """

    def __init__(self, reason: Reason, message: str, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after


class DeadlineExceeded(RecollectError):
    """The caller's deadline or a turn's timeout passed first."""


class Cancelled(RecollectError):
    """The work was cancelled on request."""

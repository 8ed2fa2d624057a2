"""What the API's failures mean to a caller. None of the provider's text is passed on."""

from typing import Any

from recollect_server.errors import (
    FailedPrecondition,
    InvalidArgument,
    Reason,
    RecollectError,
    ResourceExhausted,
    Unavailable,
)

RETRY_SECONDS = 1.0
OVERLOADED = 529


def broken_off() -> Unavailable:
    """Return the error of a stream that ended before its end."""
    return Unavailable(
        Reason.MODEL_UNAVAILABLE, "the model's API broke off its answer", RETRY_SECONDS
    )


def to_error(error: Any) -> RecollectError:
    """Return the domain's error for an `anthropic.APIError`."""
    status = getattr(error, "status_code", None)
    kind = _kind(error)
    if status == OVERLOADED or kind == "overloaded_error":
        return Unavailable(
            Reason.MODEL_OVERLOADED, "the model's API is overloaded", _retry_after(error)
        )
    if status == 429 or kind == "rate_limit_error":
        return ResourceExhausted(
            Reason.MODEL_RATE_LIMITED, "the model's API limits our rate", _retry_after(error)
        )
    if status in (401, 403):
        return FailedPrecondition(
            Reason.MODEL_CREDENTIAL, "the model's API refuses the server's key"
        )
    if status == 413 or (status == 400 and "too long" in str(error).lower()):
        return InvalidArgument(
            "message",
            "the conversation does not fit the model; lower options.context.token_budget",
            Reason.CONTEXT_TOO_LONG,
        )
    if status is not None and 400 <= status < 500 and status not in (408, 409):
        return InvalidArgument(
            "options",
            "the model's API refuses the request; check the model's name, tools and parameters",
            Reason.MODEL_REJECTED,
        )
    return Unavailable(
        Reason.MODEL_UNAVAILABLE, "the model's API cannot be reached", _retry_after(error)
    )


def may_retry(error: RecollectError) -> bool:
    """Whether the same call may work a moment later."""
    return isinstance(error, Unavailable | ResourceExhausted)


def _kind(error: Any) -> str:
    body = getattr(error, "body", None)
    inner = body.get("error") if isinstance(body, dict) else None
    return str(inner.get("type", "")) if isinstance(inner, dict) else ""


def _retry_after(error: Any) -> float:
    response = getattr(error, "response", None)
    text = response.headers.get("retry-after", "") if response is not None else ""
    try:
        return max(0.0, float(text))
    except ValueError:
        return RETRY_SECONDS

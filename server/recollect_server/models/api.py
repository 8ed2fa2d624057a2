"""What providers over an HTTP API share: their errors, retries before the first event, the SDK.

None of a provider's text is passed on: it may quote what it was sent.
"""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import structlog

from recollect_server.chat.model import Completion, ModelEvent
from recollect_server.errors import (
    FailedPrecondition,
    InvalidArgument,
    Reason,
    RecollectError,
    ResourceExhausted,
    Unavailable,
)
from recollect_server.memory.prompt import Prompt

log = structlog.get_logger("recollect.models")

RETRY_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0
OVERLOADED = (503, 529)
_TOO_LONG = ("too long", "context length", "context_length", "maximum context")


class ApiModel(ABC):
    """A provider over its SDK, which is imported at the first call. Implements `ChatModel`.

    Args:
        default_model: for prompts that name none; "" for the provider's usual one.
        base_url: another address of the API, as of a gateway; None for the provider's own.
        max_retries: repeats of a call that failed before its first event.
        timeout: seconds to the first event, retries included; later, seconds without a byte.
    """

    name: str
    usual_model: str

    def __init__(
        self,
        api_key: str,
        *,
        default_model: str = "",
        base_url: str | None = None,
        max_retries: int = 2,
        timeout: float = 30.0,
    ) -> None:
        self.default_model = default_model or self.usual_model
        self._api_key = api_key
        self._base_url = base_url
        self._max_retries = max_retries
        self._timeout = timeout
        self._failures: tuple[type[Exception], ...] = ()
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """See `ChatModel`."""
        client = await self._open()
        until = asyncio.get_running_loop().time() + self._timeout
        for attempt in range(self._max_retries + 1):
            started = False
            try:
                async with aclosing(self._attempt(client, prompt)) as events:
                    try:
                        async with asyncio.timeout_at(until):
                            first = await anext(events)
                    except TimeoutError:
                        raise _silent() from None
                    started = True
                    yield first
                    async for event in events:
                        yield event
                return
            except RecollectError as error:
                pause = _pause(error, attempt)
                late = asyncio.get_running_loop().time() + pause > until
                last = late or attempt == self._max_retries or pause > LONGEST_PAUSE_SECONDS
                if started or last or not _may_retry(error):
                    raise
                log.warning(
                    "model call failed",
                    provider=self.name,
                    reason=error.reason,
                    retry_in_seconds=round(pause, 2),
                )
            await asyncio.sleep(pause)

    async def _attempt(self, client: Any, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        complete = False
        try:
            async with aclosing(self._call(client, prompt)) as events:
                async for event in events:
                    complete = isinstance(event, Completion)
                    yield event
        except self._failures as error:
            # The SDKs wrap failures of the request, but not those in the middle of a stream.
            is_api_error = hasattr(error, "request") and hasattr(error, "body")
            raise (to_error(error) if is_api_error else _broken_off()) from error
        if not complete:
            raise _broken_off()

    @abstractmethod
    def _call(self, client: Any, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """Yield what one call streams; a stream that was cut has no `Completion`."""

    @abstractmethod
    def _import_sdk(self) -> tuple[Any, tuple[type[Exception], ...]]:
        """Return the SDK's client class and what its calls raise."""

    @abstractmethod
    def cost_usd(self, completion: Completion) -> float:
        """See `ChatModel`."""

    async def close(self) -> None:
        """See `ChatModel`."""
        if self._client is not None:
            await self._client.close()

    async def _open(self) -> Any:
        """Return the client; importing the SDK takes about a second, so not on the event loop."""
        async with self._opening:
            if self._client is None:
                client, self._failures = await asyncio.to_thread(self._import_sdk)
                self._client = client(
                    api_key=self._api_key,
                    base_url=self._base_url,
                    max_retries=0,
                    timeout=self._timeout,
                )
        return self._client


def _broken_off() -> Unavailable:
    return Unavailable(
        Reason.MODEL_UNAVAILABLE, "the model's API broke off its answer", RETRY_SECONDS
    )


def _silent() -> Unavailable:
    return Unavailable(
        Reason.MODEL_UNAVAILABLE, "the model's API did not answer in time", RETRY_SECONDS
    )


def to_error(error: Any) -> RecollectError:
    """Return the domain's error for an SDK's `APIError`."""
    status = getattr(error, "status_code", None)
    kind, code = _kind(error)
    if status in OVERLOADED or kind == "overloaded_error":
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
    if status == 413 or (status == 400 and _is_too_long(error, code)):
        return InvalidArgument(
            "message",
            "the conversation does not fit the model; lower options.context.token_budget",
            Reason.CONTEXT_TOO_LONG,
        )
    if code == "content_filter":
        return FailedPrecondition(Reason.MODEL_REFUSED, "the model's API declines the request")
    if status is not None and 400 <= status < 500 and status not in (408, 409):
        return InvalidArgument(
            "options",
            "the model's API refuses the request; check the model's name, tools and parameters",
            Reason.MODEL_REJECTED,
        )
    return Unavailable(
        Reason.MODEL_UNAVAILABLE, "the model's API cannot be reached", _retry_after(error)
    )


def _is_too_long(error: Any, code: str) -> bool:
    text = f"{code} {error}".lower()
    return any(sign in text for sign in _TOO_LONG)


def _may_retry(error: RecollectError) -> bool:
    """Whether the same call may work a moment later."""
    return isinstance(error, Unavailable | ResourceExhausted)


def _pause(error: RecollectError, attempt: int) -> float:
    """Return the seconds to wait: what the API asks for, else doubling with jitter."""
    grown = FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
    asked: float = getattr(error, "retry_after", None) or 0.0
    return max(min(float(grown), LONGEST_PAUSE_SECONDS), asked)


def _kind(error: Any) -> tuple[str, str]:
    """Return the type and the code in the error's body."""
    body = getattr(error, "body", None)
    inner = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(inner, dict):
        return "", ""
    return str(inner.get("type") or ""), str(inner.get("code") or "")


def _retry_after(error: Any) -> float:
    response = getattr(error, "response", None)
    text = response.headers.get("retry-after", "") if response is not None else ""
    try:
        return max(0.0, float(text))
    except ValueError:
        return RETRY_SECONDS

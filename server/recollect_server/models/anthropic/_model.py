"""Anthropic as a provider."""

import asyncio
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import structlog

from recollect_server.chat.model import Completion, ModelEvent
from recollect_server.errors import RecollectError
from recollect_server.memory.prompt import Prompt
from recollect_server.models.anthropic._errors import broken_off, may_retry, to_error
from recollect_server.models.anthropic._prices import cost_usd
from recollect_server.models.anthropic._request import request_of
from recollect_server.models.anthropic._stream import Reply

log = structlog.get_logger("recollect.anthropic")

DEFAULT_MODEL = "claude-opus-4-8"
SMALL_MODEL = "claude-haiku-4-5-20251001"
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0


class AnthropicModel:
    """Implements `chat.ports.ChatModel`.

    Args:
        base_url: another address of the API, as of a gateway.
        max_retries: repeats of a call that failed before its first event.
        timeout: seconds without a byte after which a call has failed.
    """

    name = "anthropic"

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str | None = None,
        default_model: str = DEFAULT_MODEL,
        max_retries: int = 2,
        timeout: float = 60.0,
    ) -> None:
        self.default_model = default_model
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
        request = request_of(prompt)
        for attempt in range(self._max_retries + 1):
            started = False
            try:
                async with aclosing(self._attempt(client, request)) as events:
                    async for event in events:
                        started = True
                        yield event
                return
            except RecollectError as error:
                pause = _pause(error, attempt)
                last = attempt == self._max_retries or pause > LONGEST_PAUSE_SECONDS
                if started or last or not may_retry(error):
                    raise
                log.warning("model call failed", reason=error.reason, retry_in_seconds=pause)
            await asyncio.sleep(pause)

    async def _attempt(self, client: Any, request: dict[str, Any]) -> AsyncGenerator[ModelEvent]:
        reply = Reply(request["model"])
        try:
            async with await client.messages.create(**request, stream=True) as events:
                async for event in events:
                    for happened in reply.take(event):
                        yield happened
        except self._failures as error:
            # The SDK wraps failures of the request, but not those in the middle of a stream.
            is_api_error = hasattr(error, "request") and hasattr(error, "body")
            raise (to_error(error) if is_api_error else broken_off()) from error
        if not reply.complete:
            raise broken_off()
        yield reply.completion()

    def cost_usd(self, completion: Completion) -> float:
        """See `ChatModel`."""
        return cost_usd(completion.model, completion.usage)

    async def close(self) -> None:
        """See `ChatModel`."""
        if self._client is not None:
            await self._client.close()

    async def _open(self) -> Any:
        """Return the client; importing the SDK takes about a second, so not on the event loop."""
        async with self._opening:
            if self._client is None:
                client, self._failures = await asyncio.to_thread(_import_sdk)
                self._client = client(
                    api_key=self._api_key,
                    base_url=self._base_url,
                    max_retries=0,
                    timeout=self._timeout,
                )
        return self._client


def _import_sdk() -> tuple[Any, tuple[type[Exception], ...]]:
    """Return the SDK's client class and what its calls raise."""
    import anthropic
    import httpx2

    return anthropic.AsyncAnthropic, (anthropic.APIError, httpx2.HTTPError)


def _pause(error: RecollectError, attempt: int) -> float:
    """Return the seconds to wait: what the API asks for, else doubling with jitter."""
    grown = FIRST_PAUSE_SECONDS * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - not a secret
    asked: float = getattr(error, "retry_after", None) or 0.0
    return max(min(float(grown), LONGEST_PAUSE_SECONDS), asked)

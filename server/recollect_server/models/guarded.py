"""A provider behind a circuit breaker, with a model that answers when it does not."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from types import TracebackType

import structlog
from msgspec.structs import replace

from recollect_server.chat.model import Completion, ModelEvent
from recollect_server.chat.ports import ChatModel
from recollect_server.errors import Reason, RecollectError, ResourceExhausted, Unavailable
from recollect_server.memory.prompt import Prompt

log = structlog.get_logger("recollect.models")

FAILURES_TO_OPEN = 5
FIRST_OPEN_SECONDS = 5.0
LONGEST_OPEN_SECONDS = 60.0
PROBE_SECONDS = 60.0
"""How long a probe is waited for before another call may be one."""


@dataclass(slots=True)
class Breaker:
    """Refuses calls for a while after several in a row have failed, then lets single ones try.

    So an outage costs the first callers their timeout and the others nothing, and the pause
    doubles, up to a minute, as long as those that try fail too.
    """

    failures: int = 0
    open_seconds: float = FIRST_OPEN_SECONDS
    open_until: float = 0.0
    probing_until: float = 0.0

    def check(self, now: float) -> None:
        """Let a call pass, or refuse it.

        Args:
            now: seconds of a clock that does not jump.

        Raises:
            Unavailable: MODEL_UNAVAILABLE, with the seconds until a call may pass.
        """
        if self.failures < FAILURES_TO_OPEN:
            return
        wait = max(self.open_until, self.probing_until) - now
        if wait > 0:
            raise Unavailable(
                Reason.MODEL_UNAVAILABLE, "the model's API has failed several times", wait
            )
        self.probing_until = now + PROBE_SECONDS

    @property
    def paused(self) -> bool:
        """Whether calls are refused, but for single ones that try."""
        return self.failures >= FAILURES_TO_OPEN

    def succeeded(self) -> None:
        """Take note of a call that worked."""
        self.failures, self.open_seconds, self.probing_until = 0, FIRST_OPEN_SECONDS, 0.0

    def failed(self, now: float) -> None:
        """Take note of a call that failed."""
        self.failures += 1
        if self.failures == FAILURES_TO_OPEN:
            log.warning("model calls paused", seconds=self.open_seconds)
        elif self.failures > FAILURES_TO_OPEN and now >= self.open_until:
            self.open_seconds = min(self.open_seconds * 2, LONGEST_OPEN_SECONDS)
        if self.failures >= FAILURES_TO_OPEN:
            self.open_until = max(self.open_until, now + self.open_seconds)
        self.probing_until = 0.0

    def left(self) -> None:
        """Take note of a call that was left before it worked or failed."""
        self.probing_until = 0.0


class GuardedModel:
    """Implements `chat.ports.ChatModel` with a provider's.

    Args:
        fallback: a provider and the name of its model, for calls that fail before their first
            event because the first provider is down or limits our rate.
    """

    def __init__(self, model: ChatModel, fallback: tuple[ChatModel, str] | None = None) -> None:
        self.name = model.name
        self.default_model = model.default_model
        self._model = model
        self._fallback = fallback
        self._breaker = Breaker()
        self._fallback_breaker = Breaker()

    def paused(self) -> dict[str, bool]:
        """Return whether calls of the `first` and of the `fallback` provider are refused."""
        breakers = {"first": self._breaker}
        if self._fallback is not None:
            breakers["fallback"] = self._fallback_breaker
        return {name: breaker.paused for name, breaker in breakers.items()}

    async def stream(self, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        """See `ChatModel`."""
        attempts = [(self._model, prompt, self._breaker)]
        if self._fallback is not None and self._fallback[1] != prompt.model:
            model, name = self._fallback
            attempts.append((model, replace(prompt, model=name), self._fallback_breaker))
        while True:
            model, prompt, breaker = attempts.pop(0)
            guard = _Guard(breaker)
            try:
                # Not a generator of its own: each that an event passes through costs it time.
                with guard:
                    async with aclosing(model.stream(prompt)) as events:
                        async for event in events:
                            if not guard.started:
                                guard.start()
                            yield event
                return
            except (Unavailable, ResourceExhausted) as error:
                if guard.started or not attempts:
                    raise
                log.warning("the fallback model answers", reason=error.reason)

    def cost_usd(self, completion: Completion) -> float:
        """See `ChatModel`."""
        cost = self._model.cost_usd(completion)
        if not cost and self._fallback is not None:
            return self._fallback[0].cost_usd(completion)
        return cost

    async def close(self) -> None:
        """See `ChatModel`."""
        await self._model.close()
        if self._fallback is not None and self._fallback[0] is not self._model:
            await self._fallback[0].close()


class _Guard:
    """One call of a provider, of whose outcome the breaker takes note.

    Attributes:
        started: the provider has sent an event.
    """

    def __init__(self, breaker: Breaker) -> None:
        self.started = False
        self._breaker = breaker

    def __enter__(self) -> None:
        self._breaker.check(time.monotonic())

    def start(self) -> None:
        """Take note of the first event."""
        self.started = True
        self._breaker.succeeded()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Unavailable):
            self._breaker.failed(time.monotonic())
        elif isinstance(error, RecollectError):
            # A limit, a refusal or a wrong request is an answer: the API is there.
            self._breaker.succeeded()
        elif error is not None and not self.started:
            self._breaker.left()

"""Anthropic as a provider."""

from collections.abc import AsyncGenerator
from typing import Any

from recollect_server.chat.model import Completion, ModelEvent
from recollect_server.memory.prompt import Prompt
from recollect_server.models.anthropic._prices import cost_usd
from recollect_server.models.anthropic._request import request_of
from recollect_server.models.anthropic._stream import Reply
from recollect_server.models.api import ApiModel

DEFAULT_MODEL = "claude-opus-4-8"
SMALL_MODEL = "claude-haiku-4-5-20251001"


class AnthropicModel(ApiModel):
    """See `ApiModel`."""

    name = "anthropic"
    usual_model = DEFAULT_MODEL

    async def _call(self, client: Any, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        reply = Reply(prompt.model)
        async with await client.messages.create(**request_of(prompt), stream=True) as events:
            async for event in events:
                for happened in reply.take(event):
                    yield happened
        if reply.complete:
            yield reply.completion()

    def _import_sdk(self) -> tuple[Any, tuple[type[Exception], ...]]:
        import anthropic
        import httpx2

        return anthropic.AsyncAnthropic, (anthropic.APIError, httpx2.HTTPError)

    def cost_usd(self, completion: Completion) -> float:
        """See `ChatModel`."""
        return cost_usd(completion.model, completion.usage)

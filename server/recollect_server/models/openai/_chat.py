"""OpenAI's chat models, and those of servers that speak its chat completions API."""

from collections.abc import AsyncGenerator
from typing import Any

from recollect_server.chat.model import Completion, ModelEvent
from recollect_server.memory.prompt import Prompt
from recollect_server.models.api import ApiModel
from recollect_server.models.openai._chat_prices import cost_usd
from recollect_server.models.openai._chat_request import request_of
from recollect_server.models.openai._chat_stream import ChatReply

DEFAULT_CHAT_MODEL = "gpt-5.1"
SMALL_CHAT_MODEL = "gpt-5-mini"


class OpenAiModel(ApiModel):
    """See `ApiModel`. With a `base_url`, only what most servers know of the API is used."""

    name = "openai"
    usual_model = DEFAULT_CHAT_MODEL

    async def _call(self, client: Any, prompt: Prompt) -> AsyncGenerator[ModelEvent]:
        reply = ChatReply(prompt.model)
        request = request_of(prompt, is_openai=self._base_url is None)
        async with await client.chat.completions.create(**request) as chunks:
            async for chunk in chunks:
                for happened in reply.take(chunk):
                    yield happened
        if reply.complete:
            yield reply.completion()

    def _import_sdk(self) -> tuple[Any, tuple[type[Exception], ...]]:
        import httpx2
        import openai

        return openai.AsyncOpenAI, (openai.APIError, httpx2.HTTPError)

    def cost_usd(self, completion: Completion) -> float:
        """See `ChatModel`."""
        return cost_usd(completion.model, completion.usage)

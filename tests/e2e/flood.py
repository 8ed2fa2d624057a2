"""A caller that floods a server, as a program of its own: its work must not slow who measures.

    python flood.py ADDRESS TOKEN CALLERS

Each line on stdin switches between flood and silence, and is answered by a line when every caller
has been answered once, or when no call is left. When stdin ends a last line says what came of the
calls, as `let_in refused`. CALLERS repeat at once whatever was answered.
"""

import asyncio
import sys
from collections import Counter

import grpc

from recollect.v1 import memory_pb2

METHOD = "/recollect.v1.MemoryService/ListSessions"


class Flood:
    """Calls a server until it is told not to."""

    def __init__(self, address: str, token: str) -> None:
        self.codes: Counter[grpc.StatusCode] = Counter()
        self.running = 0
        self._on = asyncio.Event()
        self._answered = asyncio.Condition()
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._call = grpc.aio.insecure_channel(address).unary_unary(METHOD)
        self._request = memory_pb2.ListSessionsRequest(user_id="mallory").SerializeToString()

    async def once(self) -> None:
        """Make one call."""
        self.running += 1
        code = await self._call(self._request, metadata=self._metadata).code()
        self.running -= 1
        async with self._answered:
            self.codes[code] += 1
            self._answered.notify_all()

    async def repeat(self) -> None:
        """Call again and again."""
        while True:
            await self._on.wait()
            await self.once()

    async def switch(self, callers: int) -> None:
        """Begin or end the flood, and return when all callers noticed."""
        enough = self.codes.total() + callers
        async with self._answered:
            if self._on.is_set():
                self._on.clear()
                await self._answered.wait_for(lambda: not self.running)
            else:
                self._on.set()
                await self._answered.wait_for(lambda: self.codes.total() >= enough)


async def main(address: str, token: str, callers: int) -> None:
    """Flood as stdin says."""
    flood = Flood(address, token)
    tasks = [asyncio.create_task(flood.repeat()) for _ in range(callers)]
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        await flood.switch(callers)
        print(flush=True)
    for task in tasks:
        task.cancel()
    refused = flood.codes[grpc.StatusCode.RESOURCE_EXHAUSTED]
    print(flood.codes[grpc.StatusCode.OK], refused, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))

"""What a call costs the server beside gRPC: decoding, interceptors, the servicer, encoding.

    python scripts/call_cost.py [--seconds 2] [--rounds 5] [METHOD...]

Opens a whole server in this process, without background work, and lets 16 callers go through its
handlers with requests in bytes, one after the other. Prints processor time a call: of the thread
that serves calls, and of the whole process; medians of rounds, in which methods take turns.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import grpc
import uvloop
from google.protobuf.message import Message

from recollect.v1 import cache_pb2, common_pb2, memory_pb2
from recollect_server import config, logs, server
from recollect_server.bench.connection import append_request, context_request
from recollect_server.bench.texts import Texts
from recollect_server.bench.workloads import PROMPT_MESSAGES, WINDOW, prompt_of
from recollect_server.rpc import server as rpc_server
from recollect_server.rpc.registry import generic_handler

CALLERS = 16
METHODS = {
    "GetContext": "/recollect.v1.MemoryService/GetContext",
    "AppendMessages": "/recollect.v1.MemoryService/AppendMessages",
    "LookupExact": "/recollect.v1.CacheService/Lookup",
}


class Context:
    """What a handler asks of gRPC."""

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what a client sends that sets nothing."""
        return (("user-agent", "grpc-python-asyncio"),)

    def set_trailing_metadata(self, metadata: object) -> None:
        """Take it."""

    def time_remaining(self) -> float:
        """Return seconds."""
        return 10.0

    async def abort(self, code: grpc.StatusCode, message: str, trailing: object) -> None:
        """End the script: no call of it may fail."""
        raise SystemExit(f"{code.name}: {message}")


class Handlers:
    """The handlers of a server in this process, called without gRPC."""

    def __init__(self) -> None:
        self._made: list[grpc.GenericRpcHandler] = []

    def make(self, *args: Any) -> grpc.GenericRpcHandler:
        """Stand for `registry.generic_handler`, and keep what it makes."""
        self._made.append(generic_handler(*args))
        return self._made[-1]

    def find(self, method: str) -> Any:
        """Return the handler of a method by its full name."""
        asked: Any = SimpleNamespace(method=method)
        return next(found for made in self._made if (found := made.service(asked)) is not None)

    async def ask(self, method: str, request: Message) -> Any:
        """Return the response of one call."""
        return await self.find(method).unary_unary(request, Context())


async def open_handlers(stack: AsyncExitStack) -> Handlers:
    """Return the handlers of a server in a temporary folder, which ends with the stack."""
    handlers = Handlers()
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    settings = config.load(None, listen="127.0.0.1:0", data_dir=Path(folder), worker=False)
    logs.configure("warning", settings.log_format)
    with patch.object(rpc_server, "generic_handler", handlers.make):
        await server.open_server(stack, settings)
    return handlers


async def requests_of(handlers: Handlers) -> dict[str, Callable[[int], bytes]]:
    """Prepare a user for each caller, and return what each caller sends, by method."""
    texts, users = Texts(1), [f"user-{number}" for number in range(CALLERS)]
    lookups = []
    for user in users:
        session = memory_pb2.CreateSessionRequest(user_id=user, session_id="main")
        await handlers.ask("/recollect.v1.MemoryService/CreateSession", session)
        said = append_request(user, "main", [texts.message() for _ in range(WINDOW)])
        await handlers.ask(METHODS["AppendMessages"], said)
        history = [texts.message() for _ in range(PROMPT_MESSAGES - 1)]
        prompt = prompt_of(history, texts.question())
        answer = [common_pb2.ContentPart(text=texts.message())]
        stored = cache_pb2.StoreRequest(user_id=user, prompt=prompt, answer=answer)
        await handlers.ask("/recollect.v1.CacheService/Store", stored)
        tiers = [cache_pb2.CACHE_TIER_EXACT]
        lookup = cache_pb2.LookupRequest(user_id=user, prompt=prompt, tiers=tiers)
        if not (await handlers.ask(METHODS["LookupExact"], lookup)).hit:
            raise SystemExit("a stored answer was not found")
        lookups.append(lookup.SerializeToString())
    contexts = [context_request(user, "main").SerializeToString() for user in users]

    def append(number: int) -> bytes:
        return append_request(users[number], "main", [texts.message()]).SerializeToString()

    return {
        "GetContext": contexts.__getitem__,
        "AppendMessages": append,
        "LookupExact": lookups.__getitem__,
    }


async def measure(handler: Any, request: Callable[[int], bytes], seconds: float) -> Any:
    """Return microseconds of processor a call: this thread's, and all threads'."""
    calls, end = 0, time.perf_counter() + seconds

    async def caller(number: int) -> None:
        nonlocal calls
        while time.perf_counter() < end:
            asked = handler.request_deserializer(request(number))
            answer: Awaitable[Message] = handler.unary_unary(asked, Context())
            handler.response_serializer(await answer)
            calls += 1
            # gRPC, too, lets the loop go round between calls.
            await asyncio.sleep(0)

    thread, process = time.thread_time(), time.process_time()
    await asyncio.gather(*map(caller, range(CALLERS)))
    taken = time.thread_time() - thread, time.process_time() - process
    return tuple(each * 1e6 / calls for each in taken)


async def run(names: list[str], seconds: float, rounds: int) -> None:
    """Open the server, and print a line a method."""
    async with AsyncExitStack() as stack:
        handlers = await open_handlers(stack)
        requests = await requests_of(handlers)
        found: dict[str, list[Any]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                handler = handlers.find(METHODS[name])
                found[name].append(await measure(handler, requests[name], seconds))
    for name, rows in found.items():
        own, whole = (median(column) for column in zip(*rows, strict=True))
        print(f"{name}: {own:.0f} us of the serving thread, {whole:.0f} us of the process")


def main() -> None:
    """Run `run`."""
    parser = argparse.ArgumentParser(description="What a call costs the server beside gRPC.")
    parser.add_argument("methods", nargs="*", choices=[[], *METHODS], default=[])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    uvloop.run(run(arguments.methods or list(METHODS), arguments.seconds, arguments.rounds))


if __name__ == "__main__":
    main()

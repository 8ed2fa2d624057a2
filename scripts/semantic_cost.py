"""What a semantic lookup that misses takes, beside the bare embedding of its question.

    python scripts/semantic_cost.py [--entries 200] [--lookups 200]

Opens a whole server in this process, stores a user's answers, and asks for what was never asked, at
the end of a conversation that has an answer: one lookup, then the embedding of another such
question by a model of its own, and so on, one at a time. Prints medians in milliseconds.
"""

import argparse
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from statistics import median

import uvloop
from call_cost import METHODS, Context, open_handlers

from recollect.v1 import cache_pb2, common_pb2
from recollect_server.bench.texts import Texts
from recollect_server.bench.workloads import PROMPT_MESSAGES, prompt_of
from recollect_server.models.minilm import MiniLmEmbedder

USER = "ada"
WARM_UP = 20
STORE = "/recollect.v1.CacheService/Store"


async def milliseconds(call: Awaitable[object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    await call
    return (time.perf_counter() - began) * 1000


async def run(entries: int, lookups: int) -> None:
    """Open the server, and print three lines."""
    texts = Texts(1)
    embedder = MiniLmEmbedder(cached_texts=0)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(embedder.close)
        handlers = await open_handlers(stack)
        histories = [[texts.message() for _ in range(PROMPT_MESSAGES - 1)] for _ in range(entries)]
        for history in histories:
            prompt = prompt_of(history, texts.question())
            answer = [common_pb2.ContentPart(text=texts.message())]
            stored = cache_pb2.StoreRequest(user_id=USER, prompt=prompt, answer=answer)
            await handlers.ask(STORE, stored)
        handler = handlers.find(METHODS["LookupExact"])

        hits = 0

        async def look_up(number: int) -> None:
            nonlocal hits
            prompt = prompt_of(histories[number % entries], texts.question())
            request = cache_pb2.LookupRequest(user_id=USER, prompt=prompt).SerializeToString()
            answer = await handler.unary_unary(handler.request_deserializer(request), Context())
            hits += answer.hit
            handler.response_serializer(answer)

        taken: list[tuple[float, float]] = []
        for number in range(WARM_UP + lookups):
            looked_up = await milliseconds(look_up(number))
            taken.append((looked_up, await milliseconds(embedder.embed([texts.question()]))))
    lookup, embedding = (median(column) for column in zip(*taken[WARM_UP:], strict=True))
    print(f"lookup: {lookup:.2f} ms")
    print(f"embedding alone: {embedding:.2f} ms")
    print(f"ratio: {lookup / embedding:.2f}; {hits} of {WARM_UP + lookups} got an answer")


def main() -> None:
    """Run `run`."""
    parser = argparse.ArgumentParser(description="What a semantic lookup that misses takes.")
    parser.add_argument("--entries", type=int, default=200)
    parser.add_argument("--lookups", type=int, default=200)
    arguments = parser.parse_args()
    uvloop.run(run(arguments.entries, arguments.lookups))


if __name__ == "__main__":
    main()

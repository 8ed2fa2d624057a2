"""One thread that embeds for every caller and batches what waits.

A lone text is computed at once; what arrives while a batch runs forms the next ones. Batches are
formed in the order of virtual finish times (start-time fair queueing): a text's place is the
number of tokens computed when it arrived plus the tokens of its own call up to and including it.
So a short query overtakes the rest of a long job, and no job waits for ever.
"""

import asyncio
import contextlib
import heapq
import os
import sys
import threading
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from recollect_server.errors import Reason, Unavailable

# Throughput is flat from about 256 tokens a batch; the bound keeps the batch's memory near
# 30 MB and the wait of a query behind it near 0.1 s on two cores.
_BATCH_TEXTS = 32
_BATCH_TOKENS = 1024

# Padding costs as much as text: at most this many tokens of it, or a quarter of the batch.
_FREE_PADDING = 64
_PADDING_SHARE = 0.25

_Result = asyncio.Future[NDArray[np.float32]]


class Encoder(Protocol):
    """A model, used by one thread. What `tokenise` makes of a text is what `vectors` takes."""

    def tokenise(self, texts: Sequence[str]) -> Sequence[Sized]:
        """Return each text as the model reads it; the lengths are numbers of tokens."""

    def vectors(self, tokens: Sequence[Any]) -> NDArray[np.float32]:
        """Return the embeddings of one batch: rows of unit length, in order."""


class _Call:
    """The texts of one call, and their vectors as they get done."""

    def __init__(
        self, texts: Sequence[str], dimensions: int, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.texts = texts
        self.vectors = np.empty((len(texts), dimensions), np.float32)
        self.missing = len(texts)
        self.result: _Result = loop.create_future()
        self._loop = loop

    @property
    def over(self) -> bool:
        """Whether nobody waits for it any more: cancelled, failed or done."""
        return self.result.done()

    def put(self, row: int, vector: NDArray[np.float32]) -> None:
        self.vectors[row] = vector
        self.missing -= 1
        if self.missing == 0:
            self._deliver(None)

    def fail(self, error: BaseException) -> None:
        self._deliver(error)

    def _deliver(self, error: BaseException | None) -> None:
        # A closed loop has no caller left to tell.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._resolve, error)

    def _resolve(self, error: BaseException | None) -> None:
        if self.over:
            return
        if error is None:
            self.result.set_result(self.vectors)
        else:
            self.result.set_exception(error)


@dataclass(frozen=True, slots=True, order=True)
class _Waiting:
    """One text in the queue; `place` then `number` decide, and numbers are unique."""

    place: int
    number: int
    call: _Call
    row: int
    tokens: Sized


class Worker:
    """Runs an encoder in a thread of its own.

    Args:
        make: makes the encoder, in the thread and when it is first needed.
        dimensions: length of its vectors.
        niceness: 0 to 19, how far the thread and those of its encoder stand back behind others;
            only on Linux, where threads have a priority of their own.
    """

    def __init__(self, make: Callable[[], Encoder], dimensions: int, *, niceness: int = 0) -> None:
        self._make = make
        self._dimensions = dimensions
        self._niceness = niceness
        self._made: Encoder | None = None
        self._inbox: SimpleQueue[_Call | None] = SimpleQueue()
        self._waiting: list[_Waiting] = []
        self._numbers = count()
        self._computed = 0
        self._stopping = False  # seen by the thread
        self._stopped = False  # seen by the callers
        self._thread = threading.Thread(target=self._run, name="embedder", daemon=True)
        self._thread.start()

    def submit(self, texts: Sequence[str]) -> _Result:
        """Queue at least one text and return a future of the running loop.

        Its result has shape (len(texts), dimensions). Cancelling it drops what is not computed yet.

        Raises:
            Unavailable: SHUTTING_DOWN, the worker was stopped.
        """
        if self._stopped:
            raise Unavailable(Reason.SHUTTING_DOWN, "the embedder is closed")
        call = _Call(texts, self._dimensions, asyncio.get_running_loop())
        self._inbox.put(call)
        return call.result

    def stop(self) -> None:
        """Take nothing more, compute what was submitted, then end the thread."""
        self._stopped = True
        self._inbox.put(None)

    def join(self) -> None:
        """Block until the thread has ended."""
        self._thread.join()

    @property
    def _encoder(self) -> Encoder:
        if self._made is None:
            self._made = self._make()
        return self._made

    def _run(self) -> None:
        if self._niceness and sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._niceness)
        while self._waiting or not self._stopping:
            self._receive()
            batch = self._next_batch()
            if batch:
                self._compute(batch)

    def _receive(self) -> None:
        """Take in every call that arrived; block for one if there is nothing else to do."""
        block = not self._waiting and not self._stopping
        with contextlib.suppress(Empty):
            while True:
                call = self._inbox.get(block=block)
                block = False
                if call is None:
                    self._stopping = True
                elif not call.over:
                    self._enqueue(call)

    def _enqueue(self, call: _Call) -> None:
        # BaseException, because a panic in the tokeniser's Rust code is not an Exception.
        try:
            tokens = self._encoder.tokenise(call.texts)
        except BaseException as error:  # noqa: BLE001  the caller gets it, the thread goes on
            call.fail(error)
            return
        place = self._computed
        for row, ids in enumerate(tokens):
            place += len(ids)
            heapq.heappush(self._waiting, _Waiting(place, next(self._numbers), call, row, ids))

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        longest = total = 0
        while self._waiting and len(batch) < _BATCH_TEXTS:
            item = self._waiting[0]
            if item.call.over:
                heapq.heappop(self._waiting)
                continue
            longest = max(longest, len(item.tokens))
            total += len(item.tokens)
            if batch and not _worth(longest * (len(batch) + 1), total):
                break
            batch.append(heapq.heappop(self._waiting))
        return batch

    def _compute(self, batch: Sequence[_Waiting]) -> None:
        self._computed += sum(len(item.tokens) for item in batch)
        try:
            vectors = self._encoder.vectors([item.tokens for item in batch])
        except BaseException as error:  # noqa: BLE001  the callers get it, the thread goes on
            for call in {item.call for item in batch}:
                call.fail(error)
            return
        for item, vector in zip(batch, vectors, strict=True):
            item.call.put(item.row, vector)


def _worth(padded: int, total: int) -> bool:
    """Whether a batch of `padded` tokens, `total` of them text, is small and full enough."""
    padding = padded - total
    return padded <= _BATCH_TOKENS and padding <= max(_FREE_PADDING, _PADDING_SHARE * padded)

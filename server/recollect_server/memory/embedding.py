"""The worker that gives stored texts their vectors, after their write was acknowledged."""

import asyncio

import structlog

from recollect_server.activity import Activity
from recollect_server.errors import Unavailable
from recollect_server.memory.ports import Embedder, EmbeddingQueue, EmbeddingTask
from recollect_server.memory.recall import embedding_text

log = structlog.get_logger("recollect.embedding")

IDLE_SECONDS = 0.25
"""How often the queue is asked without being told of work: jobs of other processes, retries."""

BATCH = 64

BUSY_BATCH = 16
"""Texts of a batch that is due while calls are many: some 0.1 s of a core. What a model embeds at
once is no cheaper a text when it is more."""

LONGEST_PAUSE_SECONDS = 2.0
"""How long a batch stands back for calls, unless a recall waits for it, in any process."""

BURST_SECONDS = 0.01
"""How long the first work is let lie: a burst of writes becomes one batch, or is seen as a load."""


class EmbeddingWorker:
    """Drains the queue of texts to embed until it is cancelled.

    Args:
        work_added: set by whoever adds work in this process.
        activity: the calls of this process.
        urgent: embeds what a recall waits for, beside and ahead of everything else; None leaves
            it to `embedder`. Its vectors are the same.
    """

    def __init__(
        self,
        queue: EmbeddingQueue,
        embedder: Embedder,
        work_added: asyncio.Event,
        activity: Activity,
        urgent: Embedder | None = None,
    ) -> None:
        self._queue = queue
        self._embedder = embedder
        self._work_added = work_added
        self._activity = activity
        self._urgent = urgent

    async def run(self) -> None:
        """Work until cancelled; an outage of the store is waited out."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._run())
            if self._urgent is not None:
                group.create_task(self._run_urgent(self._urgent))

    async def _run_urgent(self, embedder: Embedder) -> None:
        """Embed what somebody waits for, whatever the other loop is at."""
        while True:
            try:
                while await self._queue.somebody_waits():
                    task = await self._queue.lease_embedding(embedder.model, BATCH, hurried=True)
                    if task is None:
                        break
                    await self._embed(task, embedder)
            except Unavailable as error:
                log.debug("store unavailable", reason=error.reason)
            await asyncio.sleep(IDLE_SECONDS)

    async def _run(self) -> None:
        while True:
            self._work_added.clear()
            try:
                while await self._step():
                    pass
            except Unavailable as error:
                log.warning("store unavailable, embedding waits", reason=error.reason)
                await asyncio.sleep(IDLE_SECONDS)
                continue
            try:
                async with asyncio.timeout(IDLE_SECONDS):
                    await self._work_added.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(BURST_SECONDS)

    async def _step(self) -> bool:
        calm = await self._activity.calm(LONGEST_PAUSE_SECONDS, self._queue.somebody_waits)
        limit = BATCH if calm else BUSY_BATCH
        task = await self._queue.lease_embedding(self._embedder.model, limit)
        if task is None:
            return False
        await self._embed(task, self._embedder)
        return True

    async def _embed(self, task: EmbeddingTask, embedder: Embedder) -> None:
        try:
            vectors = await embedder.embed([embedding_text(item) for item in task.items])
        except Unavailable as error:
            log.warning("embedder unavailable", reason=error.reason, job_id=task.job_id)
            await self._queue.fail_embedding(task, error.message, waits=True)
            return
        except Exception:
            log.exception("embedding failed", job_id=task.job_id)
            await self._queue.fail_embedding(
                task, "the embedder failed; see the server's log", waits=False
            )
            return
        await self._queue.complete_embedding(task, embedder.model, vectors)

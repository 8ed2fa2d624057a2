"""Moving the index to another vector store, or filling one anew, while recall goes on."""

import uuid
from typing import Protocol

import structlog

from recollect_server.errors import InvalidArgument, PermissionDenied, Reason
from recollect_server.memory.vector_store import (
    EXACT_URL,
    OpenVectorStore,
    RegisteredStore,
    VectorFeeds,
    VectorStoreState,
)
from recollect_server.scope import Scope

log = structlog.get_logger("recollect.reindexing")


class VectorStoreRegistry(VectorFeeds, Protocol):
    """Where moves are recorded; every server and worker of the database acts on it."""

    async def register(
        self, name: str, url: str, model: str, dimensions: int, *, fed: bool
    ) -> tuple[RegisteredStore, str]:
        """Record a store to fill that takes over once it is filled, instead of any other one.

        Returns:
            The store, and the id of the job that stands for the work.
        """

    async def refill_user(self, scope: Scope) -> str:
        """Feed a user from the start to every fed store; return the id of the job.

        Raises:
            InvalidArgument: the user has no data.
        """

    async def chosen_url(self) -> str:
        """Return what the settings named when they were last obeyed, "" for nothing yet."""

    async def choose_url(self, url: str) -> None:
        """Record what the settings name."""


class Reindexing:
    """Starts moves; a `Feeder` carries them out.

    Args:
        model: name of the embedding model.
        dimensions: of its vectors.
        allowed: what callers may move to, None for any URL. An operator's settings are not asked.
    """

    def __init__(
        self,
        registry: VectorStoreRegistry,
        open_store: OpenVectorStore,
        *,
        model: str,
        dimensions: int,
        allowed: frozenset[str] | None,
    ) -> None:
        self._registry = registry
        self._open_store = open_store
        self._model = model
        self._dimensions = dimensions
        self._allowed = allowed

    async def reindex(self, target: str, scope: Scope | None) -> str:
        """Start a move to the store of a URL, or "" to fill the one in use anew.

        Args:
            scope: only this user of the store in use; None for all users of all tenants.

        Returns:
            The id of the job.

        Raises:
            InvalidArgument: the URL names no store, or there is nothing to fill.
            PermissionDenied: the operator allows no move to it.
            Unavailable: the store does not answer.
        """
        if scope is not None:
            return await self._refill_user(target, scope)
        if target and self._allowed is not None and target not in self._allowed:
            raise PermissionDenied(
                Reason.ROLE_REQUIRED,
                "target: with authentication on it must be one that the server's settings name",
            )
        return await self._start(target or (await self._active_url()))

    async def obey(self, url: str) -> None:
        """Move to the store that the settings name, if they changed or the model did.

        Raises:
            Unavailable: the store does not answer.
        """
        active = await self._active()
        if url and url != await self._registry.chosen_url():
            if url != (active.url if active else EXACT_URL):
                await self._start(url)
            await self._registry.choose_url(url)
        elif active is not None and active.url != EXACT_URL and active.model != self._model:
            filling = [s for s in await self._registry.stores() if _is_filling(s, self._model)]
            if not filling:
                await self._start(active.url)

    async def _start(self, url: str) -> str:
        name = f"recollect_{uuid.uuid4().hex}"
        if url == EXACT_URL:
            _, job_id = await self._registry.register(
                name, url, self._model, self._dimensions, fed=False
            )
            return job_id
        # Now, so that a store that does not work is refused, and is there for who writes to it.
        await self._open_store(url, name, self._dimensions).create()
        store, job_id = await self._registry.register(
            name, url, self._model, self._dimensions, fed=True
        )
        log.info("filling a vector store", store=store.name, model=store.model)
        return job_id

    async def _refill_user(self, target: str, scope: Scope) -> str:
        if target:
            raise InvalidArgument("user_id", "must be empty with a target: a move is for all users")
        active = await self._active()
        if active is None or not active.fed:
            raise InvalidArgument(
                "user_id", "must be empty: the index in use is never behind the database"
            )
        return await self._registry.refill_user(scope)

    async def _active(self) -> RegisteredStore | None:
        stores = await self._registry.stores()
        return next((s for s in stores if s.state is VectorStoreState.ACTIVE), None)

    async def _active_url(self) -> str:
        active = await self._active()
        if active is None or active.url == EXACT_URL:
            raise InvalidArgument(
                "target",
                "must name a store: the exact index is in use, which is always built from SQL",
            )
        return active.url


def _is_filling(store: RegisteredStore, model: str) -> bool:
    return store.state is VectorStoreState.FILLING and store.model == model

"""MemoryService."""

import math
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from google.protobuf.field_mask_pb2 import FieldMask

from recollect._async.transport import AsyncTransport
from recollect._messages import (
    FactLike,
    MessageLike,
    as_facts,
    as_message,
    duration,
    new_request_id,
    timestamp,
)
from recollect._settings import Tries
from recollect.errors import RecollectError
from recollect.v1 import memory_pb2 as pb
from recollect.v1.common_pb2 import MemoryKind


class AsyncMemory:
    """Conversation memory. Every method takes `user_id` (default: the client's) and `timeout`
    in seconds (default: the client's), and raises `recollect.errors`."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport
        self._user = transport.settings.user

    async def create_session(
        self,
        *,
        session_id: str = "",
        title: str = "",
        retention: pb.Retention.ValueType = pb.RETENTION_UNSPECIFIED,
        metadata: Mapping[str, str] | None = None,
        window_size: int = 0,
        window_ttl: timedelta | float | None = None,
        idle_ttl: timedelta | float | None = None,
        expire_time: datetime | None = None,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.Session:
        """Create a session; without `session_id` the server makes one."""
        request = pb.CreateSessionRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            title=title,
            retention=retention,
            metadata=metadata,
            window_size=window_size,
            window_ttl=duration(window_ttl),
            idle_ttl=duration(idle_ttl),
            expire_time=timestamp(expire_time),
            request_id=request_id or new_request_id(),
        )
        response = await self._transport.unary(
            "MemoryService/CreateSession", request, pb.CreateSessionResponse, timeout
        )
        return response.session

    async def get_session(
        self, session_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> pb.Session:
        """Return a session."""
        request = pb.GetSessionRequest(user_id=self._user(user_id), session_id=session_id)
        response = await self._transport.unary(
            "MemoryService/GetSession", request, pb.GetSessionResponse, timeout
        )
        return response.session

    async def list_sessions(
        self, *, page_size: int = 0, user_id: str | None = None, timeout: float | None = None
    ) -> AsyncIterator[pb.Session]:
        """Yield all sessions, most recently updated first, page by page."""
        request = pb.ListSessionsRequest(user_id=self._user(user_id), page_size=page_size)
        while True:
            page = await self._transport.unary(
                "MemoryService/ListSessions", request, pb.ListSessionsResponse, timeout
            )
            for item in page.sessions:
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update_session(
        self,
        session_id: str,
        *,
        title: str | None = None,
        metadata: Mapping[str, str] | None = None,
        window_size: int | None = None,
        window_ttl: timedelta | float | None = None,
        idle_ttl: timedelta | float | None = None,
        expire_time: datetime | None = None,
        expected_revision: int | None = None,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.Session:
        """Change what is given; None leaves a field as it is."""
        given = {
            "title": title,
            "metadata": metadata,
            "window_size": window_size,
            "window_ttl": window_ttl,
            "idle_ttl": idle_ttl,
            "expire_time": expire_time,
        }
        request = pb.UpdateSessionRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            session=pb.Session(
                title=title or "",
                metadata=metadata,
                window_size=window_size or 0,
                window_ttl=duration(window_ttl),
                idle_ttl=duration(idle_ttl),
                expire_time=timestamp(expire_time),
            ),
            update_mask=FieldMask(paths=[name for name, v in given.items() if v is not None]),
            expected_revision=expected_revision,
            request_id=request_id or new_request_id(),
        )
        response = await self._transport.unary(
            "MemoryService/UpdateSession", request, pb.UpdateSessionResponse, timeout
        )
        return response.session

    async def clear_session(
        self,
        session_id: str,
        *,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.Session:
        """Start the session's context anew; the transcript stays."""
        request = pb.ClearSessionRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            request_id=request_id or new_request_id(),
        )
        response = await self._transport.unary(
            "MemoryService/ClearSession", request, pb.ClearSessionResponse, timeout
        )
        return response.session

    async def delete_session(
        self,
        session_id: str,
        *,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete a session and what was drawn from it alone."""
        request = pb.DeleteSessionRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            request_id=request_id or new_request_id(),
        )
        await self._transport.unary(
            "MemoryService/DeleteSession", request, pb.DeleteSessionResponse, timeout
        )

    async def append_messages(
        self,
        session_id: str,
        messages: Iterable[MessageLike],
        *,
        expected_revision: int | None = None,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.AppendMessagesResponse:
        """Append messages, all or none; durable on return."""
        request = pb.AppendMessagesRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            messages=[as_message(message) for message in messages],
            expected_revision=expected_revision,
            request_id=request_id or new_request_id(),
        )
        return await self._transport.unary(
            "MemoryService/AppendMessages", request, pb.AppendMessagesResponse, timeout
        )

    async def list_messages(
        self,
        session_id: str,
        *,
        order: pb.ListOrder.ValueType = pb.LIST_ORDER_OLDEST_FIRST,
        from_sequence: int = 0,
        start_time: datetime | None = None,
        page_size: int = 0,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[pb.Message]:
        """Yield all messages of a session, page by page."""
        request = pb.ListMessagesRequest(
            user_id=self._user(user_id),
            session_id=session_id,
            order=order,
            from_sequence=from_sequence,
            start_time=timestamp(start_time),
            page_size=page_size,
        )
        while True:
            page = await self._transport.unary(
                "MemoryService/ListMessages", request, pb.ListMessagesResponse, timeout
            )
            for item in page.messages:
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_context(
        self,
        session_id: str,
        *,
        query: str = "",
        options: pb.ContextOptions | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.GetContextResponse:
        """Return what to put into a model's prompt."""
        request = pb.GetContextRequest(
            user_id=self._user(user_id), session_id=session_id, query=query, options=options
        )
        return await self._transport.unary(
            "MemoryService/GetContext", request, pb.GetContextResponse, timeout
        )

    async def remember(
        self,
        facts: Iterable[FactLike],
        *,
        reconcile: bool = False,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.RememberResponse:
        """Store facts, all or none; durable on return.

        With `reconcile` they are compared with similar facts, and may be merged with them or
        supersede them; `actions` of the response says what became of each.
        """
        request = pb.RememberRequest(
            user_id=self._user(user_id),
            facts=as_facts(facts),
            reconcile=reconcile,
            request_id=request_id or new_request_id(),
        )
        return await self._transport.unary(
            "MemoryService/Remember", request, pb.RememberResponse, timeout
        )

    async def recall(
        self,
        query: str,
        *,
        kinds: Sequence[MemoryKind.ValueType] = (),
        filter: pb.RecallFilter | None = None,
        top_k: int = 0,
        explain: bool = False,
        min_revision: int = 0,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.RecallResponse:
        """Find facts, turns and episodes by meaning and words."""
        request = pb.RecallRequest(
            user_id=self._user(user_id),
            query=query,
            kinds=kinds,
            filter=filter,
            top_k=top_k,
            explain=explain,
            min_revision=min_revision,
        )
        return await self._transport.unary(
            "MemoryService/Recall", request, pb.RecallResponse, timeout
        )

    async def get_fact(
        self, fact_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> pb.Fact:
        """Return the current version of a fact."""
        request = pb.GetFactRequest(user_id=self._user(user_id), fact_id=fact_id)
        response = await self._transport.unary(
            "MemoryService/GetFact", request, pb.GetFactResponse, timeout
        )
        return response.fact

    async def list_facts(
        self,
        *,
        include_closed: bool = False,
        kinds: Sequence[pb.FactKind.ValueType] = (),
        page_size: int = 0,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[pb.Fact]:
        """Yield all facts, or those of some kinds, most recently recorded first, page by page."""
        request = pb.ListFactsRequest(
            user_id=self._user(user_id),
            include_closed=include_closed,
            kinds=kinds,
            page_size=page_size,
        )
        while True:
            page = await self._transport.unary(
                "MemoryService/ListFacts", request, pb.ListFactsResponse, timeout
            )
            for item in page.facts:
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def update_fact(
        self,
        fact_id: str,
        *,
        text: str | None = None,
        metadata: Mapping[str, str] | None = None,
        confidence: float | None = None,
        valid_from: datetime | None = None,
        valid_to: datetime | None = None,
        kind: pb.FactKind.ValueType | None = None,
        expected_version: int | None = None,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.Fact:
        """Write the next version of a fact; None leaves a field as it is."""
        given = {
            "text": text,
            "metadata": metadata,
            "confidence": confidence,
            "valid_from": valid_from,
            "valid_to": valid_to,
            "kind": kind,
        }
        request = pb.UpdateFactRequest(
            user_id=self._user(user_id),
            fact_id=fact_id,
            fact=pb.Fact(
                text=text or "",
                metadata=metadata,
                confidence=confidence or 0.0,
                valid_from=timestamp(valid_from),
                valid_to=timestamp(valid_to),
                kind=kind or pb.FACT_KIND_UNSPECIFIED,
            ),
            update_mask=FieldMask(paths=[name for name, v in given.items() if v is not None]),
            expected_version=expected_version,
            request_id=request_id or new_request_id(),
        )
        response = await self._transport.unary(
            "MemoryService/UpdateFact", request, pb.UpdateFactResponse, timeout
        )
        return response.fact

    async def forget_fact(
        self,
        fact_id: str,
        *,
        request_id: str | None = None,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> None:
        """Delete a fact with its history."""
        request = pb.ForgetFactRequest(
            user_id=self._user(user_id),
            fact_id=fact_id,
            request_id=request_id or new_request_id(),
        )
        await self._transport.unary(
            "MemoryService/ForgetFact", request, pb.ForgetFactResponse, timeout
        )

    async def get_fact_history(
        self, fact_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> list[pb.Fact]:
        """Return every version of a fact, oldest first."""
        request = pb.GetFactHistoryRequest(user_id=self._user(user_id), fact_id=fact_id)
        response = await self._transport.unary(
            "MemoryService/GetFactHistory", request, pb.GetFactHistoryResponse, timeout
        )
        return list(response.versions)

    async def extract_facts(
        self,
        session_id: str,
        *,
        dry_run: bool = False,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> pb.ExtractFactsResponse:
        """Extract facts from the messages not yet read, now."""
        request = pb.ExtractFactsRequest(
            user_id=self._user(user_id), session_id=session_id, dry_run=dry_run
        )
        return await self._transport.unary(
            "MemoryService/ExtractFacts", request, pb.ExtractFactsResponse, timeout
        )

    async def compact_session(
        self, session_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> pb.Session:
        """Bring a session's rolling summary up to date, now."""
        request = pb.CompactSessionRequest(user_id=self._user(user_id), session_id=session_id)
        response = await self._transport.unary(
            "MemoryService/CompactSession", request, pb.CompactSessionResponse, timeout
        )
        return response.session

    async def list_episodes(
        self,
        *,
        session_id: str = "",
        page_size: int = 0,
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[pb.Episode]:
        """Yield all episodes, or those of a session, newest first, page by page."""
        request = pb.ListEpisodesRequest(
            user_id=self._user(user_id), session_id=session_id, page_size=page_size
        )
        while True:
            page = await self._transport.unary(
                "MemoryService/ListEpisodes", request, pb.ListEpisodesResponse, timeout
            )
            for item in page.episodes:
                yield item
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def get_episode(
        self, episode_id: str, *, user_id: str | None = None, timeout: float | None = None
    ) -> pb.Episode:
        """Return an episode."""
        request = pb.GetEpisodeRequest(user_id=self._user(user_id), episode_id=episode_id)
        response = await self._transport.unary(
            "MemoryService/GetEpisode", request, pb.GetEpisodeResponse, timeout
        )
        return response.episode

    async def watch(
        self,
        *,
        session_id: str = "",
        resume_token: str = "",
        user_id: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[pb.WatchResponse]:
        """Yield the changes of a user or a session, in order, until the caller stops.

        Without `resume_token` the first response comes at once and has no subject: whatever is
        written after it will be yielded. While the server cannot be reached it is asked again, and
        the changes go on where they broke off, without gap or repeat. `timeout` is for all of it;
        by default it has none.
        """
        request = pb.WatchRequest(
            user_id=self._user(user_id), session_id=session_id, resume_token=resume_token
        )
        tries = Tries(timeout)
        while True:
            responses = self._transport.stream(
                "MemoryService/Watch", request, pb.WatchResponse, tries.left, once=True
            )
            try:
                async for response in responses:
                    request.resume_token = response.resume_token
                    tries.reset()
                    yield response
                return
            except RecollectError as error:
                pause = tries.pause_after(error, math.inf if request.resume_token else None)
            await self._transport.pause(pause)

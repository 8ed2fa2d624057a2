"""Facts drawn from conversations: in the background every few messages, or on demand.

Which messages have been read is a sequence kept with the session and moved in the same step that
stores what was found in them, so none is read twice or left out, whatever fails in between.
"""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from recollect_server.errors import FailedPrecondition, Reason
from recollect_server.memory.due import DuePolicy
from recollect_server.memory.fact_plan import Plan, found
from recollect_server.memory.jobs import BadModelAnswer, Job
from recollect_server.memory.model import (
    Fact,
    FactAction,
    Message,
    Reconciled,
    Role,
    Session,
)
from recollect_server.memory.ports import FactExtractor, FactStore, SessionStore
from recollect_server.memory.reconciliation import Reconciler
from recollect_server.memory.summaries import within
from recollect_server.scope import Scope

LEAST_CHUNK, MOST_CHUNK = 10, 50
"""Bounds of the number of messages that are read at once; within them it is how many make an
extraction due."""

CHUNK_TOKENS = 6000
"""Most of their estimated tokens."""

SPOKEN = (Role.USER, Role.ASSISTANT)
"""Whose messages are read: instructions and tools' results say nothing of the user."""


class Extraction:
    """Reads sessions for facts.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        sessions: SessionStore,
        facts: FactStore,
        reconciler: Reconciler,
        extractor: FactExtractor,
        policy: DuePolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._facts = facts
        self._reconciler = reconciler
        self._extractor = extractor
        self._policy = policy
        self._clock = clock

    async def run(self, job: Job) -> None:
        """Read the session while enough of it has not been read."""
        while True:
            session = await self._sessions.get_session(job.scope, job.session_id)
            if session.last_sequence - session.extracted_through < self._policy.extract_every:
                return
            await self._step(job.scope, session)

    async def extract(
        self, scope: Scope, session_id: str, *, dry_run: bool
    ) -> tuple[tuple[Reconciled, ...], int]:
        """Read all that has not been read, now.

        Args:
            dry_run: store nothing, return what would be stored for the first messages not read.

        Returns:
            The facts stored or changed, and up to which sequence the session has been read.

        Raises:
            NotFound: SESSION_NOT_FOUND.
            Unavailable, ResourceExhausted: the model does not answer.
            FailedPrecondition: MODEL_REFUSED, it answers with no facts that can be read.
            Aborted: REVISION_MISMATCH, see `Reconciler`.
        """
        try:
            return await self._extract(scope, session_id, dry_run=dry_run)
        except BadModelAnswer as error:
            raise FailedPrecondition(Reason.MODEL_REFUSED, str(error)) from None

    async def _extract(
        self, scope: Scope, session_id: str, *, dry_run: bool
    ) -> tuple[tuple[Reconciled, ...], int]:
        session = await self._sessions.get_session(scope, session_id)
        if dry_run:
            facts = await self._find(await self._unread(scope, session), session_id)
            plan = await self._reconciler.plan(scope, facts)
            would = (Reconciled(step.preview, step.action) for step in plan.steps)
            return _stored(would), session.extracted_through
        results: list[Reconciled] = []
        while session.last_sequence > session.extracted_through:
            results += await self._step(scope, session)
            session = await self._sessions.get_session(scope, session_id)
        return _stored(results), session.extracted_through

    async def _step(self, scope: Scope, session: Session) -> tuple[Reconciled, ...]:
        """Read the next messages; what was found is stored with the new watermark or not at all."""
        messages = await self._unread(scope, session)
        facts = await self._find(messages, session.session_id)

        async def save(plan: Plan) -> tuple[Reconciled, ...] | None:
            return await self._facts.save_extracted(
                scope,
                session.session_id,
                plan,
                through=messages[-1].sequence,
                replaces_through=session.extracted_through,
                session_time=session.create_time,
            )

        return await self._reconciler.apply(scope, facts, save) or ()

    async def _find(self, messages: Sequence[Message], session_id: str) -> tuple[Fact, ...]:
        spoken = [m for m in messages if m.role in SPOKEN and m.text]
        extracted = await self._extractor.extract(spoken) if spoken else ()
        model, now = self._extractor.extraction_model, self._clock()
        return tuple(found(fact, session_id, model, now) for fact in extracted)

    async def _unread(self, scope: Scope, session: Session) -> tuple[Message, ...]:
        messages = await self._sessions.list_messages(
            scope,
            session.session_id,
            limit=min(max(self._policy.extract_every, LEAST_CHUNK), MOST_CHUNK),
            after=session.extracted_through,
            before=None,
            since=None,
            newest_first=False,
        )
        return within(messages, CHUNK_TOKENS)


def _stored(results: Iterable[Reconciled]) -> tuple[Reconciled, ...]:
    return tuple(result for result in results if result.action is not FactAction.IGNORED)

"""Facts drawn from conversations: in the background every few messages, or on demand.

Which messages have been read is a sequence kept with the session and moved in the same step that
stores what was found in them, so none is read twice or left out, whatever fails in between.
"""

from collections.abc import Callable
from datetime import datetime

from recollect_server.errors import FailedPrecondition, Reason
from recollect_server.ids import uuid7
from recollect_server.memory.due import DuePolicy
from recollect_server.memory.jobs import BadModelAnswer, Job
from recollect_server.memory.model import ExtractedFact, Fact, FactSource, Message, Session
from recollect_server.memory.ports import FactExtractor, FactStore, SessionStore
from recollect_server.memory.summaries import within
from recollect_server.scope import Scope

CHUNK_MESSAGES = 20
CHUNK_TOKENS = 6000
"""Most messages, and most of their estimated tokens, that are read at once."""

EXTRACTED_BY = "extracted_by"
"""Key of the metadata that names the model that found a fact."""


class Extraction:
    """Reads sessions for facts.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        sessions: SessionStore,
        facts: FactStore,
        extractor: FactExtractor,
        policy: DuePolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._facts = facts
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
    ) -> tuple[tuple[Fact, ...], int]:
        """Read all that has not been read, now.

        Args:
            dry_run: store nothing, return what would be stored for the first messages not read.

        Returns:
            The facts, and up to which sequence the session has been read.

        Raises:
            NotFound: SESSION_NOT_FOUND.
            Unavailable, ResourceExhausted: the model does not answer.
            FailedPrecondition: MODEL_REFUSED, it answers with no facts that can be read.
        """
        try:
            return await self._extract(scope, session_id, dry_run=dry_run)
        except BadModelAnswer as error:
            raise FailedPrecondition(Reason.MODEL_REFUSED, str(error)) from None

    async def _extract(
        self, scope: Scope, session_id: str, *, dry_run: bool
    ) -> tuple[tuple[Fact, ...], int]:
        session = await self._sessions.get_session(scope, session_id)
        if dry_run:
            messages = await self._unread(scope, session)
            found = await self._extractor.extract(messages) if messages else ()
            return tuple(self._preview(fact, session_id) for fact in found), (
                session.extracted_through
            )
        stored: list[Fact] = []
        while session.last_sequence > session.extracted_through:
            stored += await self._step(scope, session)
            session = await self._sessions.get_session(scope, session_id)
        return tuple(stored), session.extracted_through

    async def _step(self, scope: Scope, session: Session) -> tuple[Fact, ...]:
        messages = await self._unread(scope, session)
        found = await self._extractor.extract(messages)
        stored = await self._facts.save_extracted(
            scope,
            session.session_id,
            found,
            model=self._extractor.extraction_model,
            through=messages[-1].sequence,
            replaces_through=session.extracted_through,
            session_time=session.create_time,
        )
        return stored or ()

    async def _unread(self, scope: Scope, session: Session) -> tuple[Message, ...]:
        messages = await self._sessions.list_messages(
            scope,
            session.session_id,
            limit=CHUNK_MESSAGES,
            after=session.extracted_through,
            before=None,
            since=None,
            newest_first=False,
        )
        return within(messages, CHUNK_TOKENS)

    def _preview(self, found: ExtractedFact, session_id: str) -> Fact:
        return to_fact(found, session_id, uuid7(), self._extractor.extraction_model, self._clock())


def to_fact(found: ExtractedFact, session_id: str, fact_id: str, model: str, now: datetime) -> Fact:
    """Return the first version of a fact that was found."""
    return Fact(
        fact_id=fact_id,
        version=1,
        text=found.text,
        metadata={EXTRACTED_BY: model},
        confidence=found.confidence,
        valid_from=now,
        valid_to=None,
        recorded_at=now,
        sources=(FactSource(session_id, found.first_sequence, found.last_sequence),),
    )

"""Rolling summaries and episodes: made in the background, from the messages themselves.

The transcript stays as it is. A new summary replaces the old one in one step and says which
messages it covers, so there is always one or the other, and context goes on where it ends.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from recollect_server.errors import FailedPrecondition, Reason
from recollect_server.memory.due import DuePolicy
from recollect_server.memory.jobs import BadModelAnswer, Job
from recollect_server.memory.model import (
    Message,
    NewEpisode,
    Session,
    Summary,
)
from recollect_server.memory.ports import EpisodeStore, SessionStore, Summarizer
from recollect_server.scope import Scope

CHUNK_MESSAGES = 100
CHUNK_TOKENS = 6000
"""Most messages, and most of their estimated tokens, that are summarised in one step."""


class Compactor:
    """Keeps sessions' rolling summaries.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        sessions: SessionStore,
        summarizer: Summarizer,
        policy: DuePolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._summarizer = summarizer
        self._policy = policy
        self._clock = clock

    async def run(self, job: Job) -> None:
        """Summarise while the session has too much that no summary covers."""
        session = await self._sessions.get_session(job.scope, job.session_id)
        while self._policy.summary_is_due(
            session.last_sequence - session.summary_through, session.open_tokens
        ):
            session = await self._step(job.scope, session)

    async def compact(self, scope: Scope, session_id: str) -> Session:
        """Summarise all but the newest messages now; return the session.

        Raises:
            NotFound: SESSION_NOT_FOUND.
            Unavailable, ResourceExhausted: the model does not answer.
            FailedPrecondition: MODEL_REFUSED, it answers with no summary.
        """
        session = await self._sessions.get_session(scope, session_id)
        try:
            while session.last_sequence - session.summary_through > self._policy.summary_recent:
                session = await self._step(scope, session)
        except BadModelAnswer as error:
            raise FailedPrecondition(Reason.MODEL_REFUSED, str(error)) from None
        return session

    async def _step(self, scope: Scope, session: Session) -> Session:
        """Take the next messages into the summary; return the session as it is then."""
        messages = await self._sessions.list_messages(
            scope,
            session.session_id,
            limit=CHUNK_MESSAGES,
            after=session.summary_through,
            before=session.last_sequence - self._policy.summary_recent + 1,
            since=None,
            newest_first=False,
        )
        messages = within(messages, CHUNK_TOKENS)
        earlier = session.summary.text if session.summary is not None else ""
        text = await self._summarizer.summarize(earlier, messages)
        summary = Summary(
            text, messages[-1].sequence, self._clock(), self._summarizer.summary_model
        )
        saved = await self._sessions.save_summary(
            scope, session.session_id, summary, session.summary_through, session.create_time
        )
        return saved or await self._sessions.get_session(scope, session.session_id)


class EpisodeMaker:
    """Makes episodes of stretches of sessions that were cleared or have been idle.

    Args:
        clock: returns the present as an aware UTC datetime.
    """

    def __init__(
        self,
        sessions: SessionStore,
        episodes: EpisodeStore,
        summarizer: Summarizer,
        policy: DuePolicy,
        clock: Callable[[], datetime],
    ) -> None:
        self._sessions = sessions
        self._episodes = episodes
        self._summarizer = summarizer
        self._policy = policy
        self._clock = clock

    async def run(self, job: Job) -> None:
        """Make the session's episodes that are due."""
        while True:
            session = await self._sessions.get_session(job.scope, job.session_id)
            last = self._ended_at(session)
            if last <= session.episode_through:
                return
            episode = await self._make(job.scope, session, last)
            await self._episodes.save_episode(
                job.scope, job.session_id, episode, session.create_time
            )

    def _ended_at(self, session: Session) -> int:
        """Return the sequence where the stretch after the last episode ended, 0 if it goes on."""
        cleared = session.window_start - 1
        if cleared > session.episode_through:
            return cleared
        idle = self._clock() - session.update_time >= self._policy.episode_idle
        return session.last_sequence if idle else 0

    async def _make(self, scope: Scope, session: Session, last: int) -> NewEpisode:
        summary = ""
        through = session.episode_through
        first: Message | None = None
        newest: Message | None = None
        while through < last:
            messages = await self._sessions.list_messages(
                scope,
                session.session_id,
                limit=CHUNK_MESSAGES,
                after=through,
                before=last + 1,
                since=None,
                newest_first=False,
            )
            messages = within(messages, CHUNK_TOKENS)
            summary = await self._summarizer.summarize(summary, messages)
            first, newest = first or messages[0], messages[-1]
            through = newest.sequence
        if first is None or newest is None:
            raise AssertionError("a stretch holds messages")
        return NewEpisode(
            title=session.title or await self._summarizer.title(summary),
            summary=summary,
            model=self._summarizer.summary_model,
            first_sequence=first.sequence,
            last_sequence=last,
            start_time=first.time,
            end_time=newest.time,
        )


def within(messages: Sequence[Message], tokens: int) -> tuple[Message, ...]:
    """Return the first messages that fit into a number of tokens, at least one."""
    used = 0
    for position, message in enumerate(messages):
        used += message.token_count
        if position and used > tokens:
            return tuple(messages[:position])
    return tuple(messages)

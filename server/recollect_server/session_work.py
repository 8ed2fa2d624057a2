"""Wires what becomes of sessions, by jobs or by a call: summaries, facts, episodes."""

from dataclasses import dataclass

from recollect_server.chat.ports import ChatModel
from recollect_server.config import Settings
from recollect_server.memory.due import DuePolicy
from recollect_server.memory.extraction import Extraction
from recollect_server.memory.ports import IndexSource, RecallIndex
from recollect_server.memory.reconciliation import Reconciler
from recollect_server.memory.summaries import Compactor, EpisodeMaker
from recollect_server.parts import due_policy, extractor_of, judge_of, summarizer_of, utc_now
from recollect_server.stores.sql.database import Database
from recollect_server.stores.sql.episodes import SqlEpisodeStore
from recollect_server.stores.sql.facts import SqlFactStore
from recollect_server.stores.sql.sessions import SqlSessionStore


@dataclass(frozen=True, slots=True)
class SessionWork:
    """What is done with sessions, and the stores in SQL that it works on.

    Attributes:
        policy: when it is due.
    """

    policy: DuePolicy
    sessions: SqlSessionStore
    facts: SqlFactStore
    episodes: SqlEpisodeStore
    reconciler: Reconciler
    extraction: Extraction
    compactor: Compactor
    episode_maker: EpisodeMaker


def make_session_work(
    settings: Settings,
    database: Database,
    model: ChatModel,
    index: RecallIndex,
    source: IndexSource,
) -> SessionWork:
    """Wire the work on sessions.

    Args:
        index, source: see `Reconciler`.
    """
    policy = due_policy(settings)
    sessions = SqlSessionStore(database, utc_now, policy)
    facts = SqlFactStore(database, utc_now)
    episodes = SqlEpisodeStore(database, utc_now)
    reconciler = Reconciler(facts, index, source, judge_of(model, settings), utc_now)
    extractor = extractor_of(model, settings)
    summarizer = summarizer_of(model, settings)
    return SessionWork(
        policy=policy,
        sessions=sessions,
        facts=facts,
        episodes=episodes,
        reconciler=reconciler,
        extraction=Extraction(sessions, facts, reconciler, extractor, policy, utc_now),
        compactor=Compactor(sessions, summarizer, policy, utc_now),
        episode_maker=EpisodeMaker(sessions, episodes, summarizer, policy, utc_now),
    )

"""`recollect bench recall`: does the right turn or fact come back, and how fast."""

import asyncio
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from recollect import AsyncRecollect
from recollect.v1 import common_pb2, memory_pb2
from recollect_server.bench.data import Question, RecallData, Turn
from recollect_server.bench.stats import mean, percentile, recall_at, reciprocal_rank

MESSAGES_A_REQUEST = 100
FACTS_A_REQUEST = 100
CONCURRENT_SESSIONS = 4
INDEX_SECONDS = 900.0
ROLES = {"user": common_pb2.ROLE_USER, "assistant": common_pb2.ROLE_ASSISTANT}

T = TypeVar("T")

Progress = Callable[[str, int, int], None]
"""Called with a stage, what is done and what there is to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a question brought back: ids best first, and the seconds it took."""

    question: Question
    found: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class RecallRun:
    """A finished run.

    Attributes:
        ingest_seconds: from the first append to the last acknowledgement.
        index_seconds: from there until everything could be found by meaning.
    """

    answers: tuple[Answer, ...]
    items: int
    ingest_seconds: float
    index_seconds: float
    top_k: int


async def run(
    client: AsyncRecollect, data: RecallData, *, top_k: int, progress: Progress
) -> RecallRun:
    """Put a file into a server and ask its questions, one at a time.

    Users of the file get ids of this run's own, so that a server may hold other data.
    """
    run_id = uuid.uuid4().hex[:8]
    revisions: dict[str, int] = defaultdict(int)
    started = time.perf_counter()
    await _ingest_turns(client, data.turns, run_id, revisions, progress)
    await _ingest_facts(client, data, run_id, revisions)
    ingested = time.perf_counter()
    for done, (user, revision) in enumerate(revisions.items(), start=1):
        await client.memory.recall(
            "ready?", user_id=user, top_k=1, min_revision=revision, timeout=INDEX_SECONDS
        )
        progress("indexing users", done, len(revisions))
    indexed = time.perf_counter()
    answers = await _ask(client, data, run_id, top_k, progress)
    return RecallRun(
        answers=tuple(answers),
        items=len(data.turns) + len(data.facts),
        ingest_seconds=ingested - started,
        index_seconds=indexed - ingested,
        top_k=top_k,
    )


def _name(run_id: str, user: str) -> str:
    return f"bench-{run_id}-{user}"


async def _ingest_turns(
    client: AsyncRecollect,
    turns: Sequence[Turn],
    run_id: str,
    revisions: dict[str, int],
    progress: Progress,
) -> None:
    sessions: dict[tuple[str, str], list[Turn]] = defaultdict(list)
    for turn in turns:
        sessions[_name(run_id, turn.user), turn.session].append(turn)
    gate = asyncio.Semaphore(CONCURRENT_SESSIONS)
    done = 0

    async def one(user: str, session: str, said: list[Turn]) -> None:
        nonlocal done
        async with gate:
            await client.memory.create_session(session_id=session, user_id=user)
            for batch in _batches(said, MESSAGES_A_REQUEST):
                appended = await client.memory.append_messages(
                    session, [_message(turn) for turn in batch], user_id=user
                )
                revisions[user] = max(revisions[user], appended.user_revision)
                done += len(batch)
                progress("appending turns", done, len(turns))

    await asyncio.gather(*(one(*key, said) for key, said in sessions.items()))


def _message(turn: Turn) -> memory_pb2.NewMessage:
    message = memory_pb2.NewMessage(
        role=ROLES.get(turn.speaker.lower(), common_pb2.ROLE_USER),
        parts=[common_pb2.ContentPart(text=turn.text)],
        author_name=turn.speaker,
        external_id=turn.id,
    )
    if turn.time is not None:
        message.time.FromDatetime(turn.time)
    return message


async def _ingest_facts(
    client: AsyncRecollect, data: RecallData, run_id: str, revisions: dict[str, int]
) -> None:
    users: dict[str, list[memory_pb2.NewFact]] = defaultdict(list)
    for fact in data.facts:
        new = memory_pb2.NewFact(text=fact.text, fact_id=fact.id)
        users[_name(run_id, fact.user)].append(new)
    for user, facts in users.items():
        for batch in _batches(facts, FACTS_A_REQUEST):
            remembered = await client.memory.remember(batch, user_id=user)
            revisions[user] = max(revisions[user], remembered.user_revision)


async def _ask(
    client: AsyncRecollect, data: RecallData, run_id: str, top_k: int, progress: Progress
) -> list[Answer]:
    facts: dict[str, set[str]] = defaultdict(set)
    for fact in data.facts:
        facts[fact.user].add(fact.id)
    answers = []
    for done, question in enumerate(data.questions, start=1):
        about_facts = question.relevant <= facts[question.user]
        kind = common_pb2.MEMORY_KIND_FACT if about_facts else common_pb2.MEMORY_KIND_TURN
        started = time.perf_counter()
        response = await client.memory.recall(
            question.text, user_id=_name(run_id, question.user), kinds=[kind], top_k=top_k
        )
        seconds = time.perf_counter() - started
        found = tuple(
            hit.fact.fact_id if about_facts else hit.turn.external_id for hit in response.hits
        )
        answers.append(Answer(question, found, seconds))
        progress("asking", done, len(data.questions))
    return answers


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def metrics(answers: Sequence[Answer], top_k: int) -> dict[str, object]:
    """Return recall at 5 and 10 (None where fewer were asked for) and mean reciprocal rank."""
    return {
        **{
            f"recall_at_{k}": (
                round(mean([recall_at(a.found, a.question.relevant, k) for a in answers]), 4)
                if k <= top_k
                else None
            )
            for k in (5, 10)
        },
        "mrr": round(mean([reciprocal_rank(a.found, a.question.relevant) for a in answers]), 4),
        "questions": len(answers),
    }


def results(run: RecallRun) -> dict[str, object]:
    """Return the run as the JSON of `--json`."""
    categories: dict[str, list[Answer]] = defaultdict(list)
    for answer in run.answers:
        categories[answer.question.category].append(answer)
    milliseconds = [answer.seconds * 1000 for answer in run.answers]
    return {
        **metrics(run.answers, run.top_k),
        "by_category": {
            name: metrics(answers, run.top_k) for name, answers in sorted(categories.items())
        },
        "query_ms": {
            f"p{round(share * 100)}": round(percentile(milliseconds, share), 2)
            for share in (0.5, 0.95, 0.99)
        },
        "ingest_turns_per_s": round(run.items / run.ingest_seconds, 1),
        "items": run.items,
        "index_wait_s": round(run.index_seconds, 2),
        "top_k": run.top_k,
    }

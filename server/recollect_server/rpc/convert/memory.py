"""Conversions of MemoryService."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from recollect.v1 import common_pb2 as common
from recollect.v1 import memory_pb2 as pb
from recollect_server.memory.context import (
    OPTIONS_OF,
    Context,
    ContextItem,
    ContextOptions,
    ContextProfile,
)
from recollect_server.memory.model import (
    Episode,
    Fact,
    FactKind,
    MemoryKind,
    Message,
    NewFact,
    NewMessage,
    NewSession,
    Reconciled,
    Remembered,
    Retention,
    Role,
    Session,
)
from recollect_server.memory.ports import RecallFilter
from recollect_server.memory.recalling import Recalled, RecallHit
from recollect_server.memory.service import (
    DEFAULT_WINDOW_SIZE,
    DEFAULT_WINDOW_TTL,
    new_session_id,
)
from recollect_server.rpc.convert.common import (
    add_parts,
    add_prompt_messages,
    degradations,
    from_time,
    set_time,
    to_parts,
    to_time,
)


def to_new_session(request: pb.CreateSessionRequest) -> NewSession:
    """Return the session to create."""
    session_id = request.session_id
    if request.retention == pb.RETENTION_EPHEMERAL:
        # Nothing else remembers which session a request made.
        session_id = session_id or request.request_id
    return NewSession(
        session_id=new_session_id(session_id),
        title=request.title,
        retention=Retention(request.retention or Retention.DURABLE),
        metadata=dict(request.metadata),
        window_size=request.window_size or DEFAULT_WINDOW_SIZE,
        window_ttl=request.window_ttl.ToTimedelta() or DEFAULT_WINDOW_TTL,
        idle_ttl=request.idle_ttl.ToTimedelta(),
        expire_time=to_time(request.expire_time) if request.HasField("expire_time") else None,
    )


def to_session_changes(request: pb.UpdateSessionRequest) -> dict[str, object]:
    """Return the attributes that the mask names, with their new values."""
    session = request.session
    values: dict[str, object] = {
        "title": session.title,
        "metadata": dict(session.metadata),
        "window_size": session.window_size or DEFAULT_WINDOW_SIZE,
        "window_ttl": session.window_ttl.ToTimedelta() or DEFAULT_WINDOW_TTL,
        "idle_ttl": session.idle_ttl.ToTimedelta(),
        "expire_time": to_time(session.expire_time) if session.HasField("expire_time") else None,
    }
    return {path: values[path] for path in request.update_mask.paths}


def from_session(session: Session, user_id: str) -> pb.Session:
    """Return the protobuf message."""
    message = pb.Session(
        user_id=user_id,
        session_id=session.session_id,
        title=session.title,
        retention=pb.Retention.ValueType(session.retention),
        metadata=session.metadata,
        window_size=session.window_size,
        create_time=from_time(session.create_time),
        update_time=from_time(session.update_time),
        revision=session.revision,
        last_sequence=session.last_sequence,
        message_count=session.message_count,
        window_start=session.window_start,
    )
    message.window_ttl.FromTimedelta(session.window_ttl)
    message.idle_ttl.FromTimedelta(session.idle_ttl)
    if session.expire_time is not None:
        message.expire_time.CopyFrom(from_time(session.expire_time))
    if session.summary is not None:
        message.summary.text = session.summary.text
        message.summary.through_sequence = session.summary.through_sequence
        message.summary.update_time.CopyFrom(from_time(session.summary.update_time))
        message.summary.model = session.summary.model
    return message


def to_new_message(message: pb.NewMessage) -> NewMessage:
    """Return the message to append."""
    return NewMessage(
        role=Role(message.role),
        parts=to_parts(message.parts),
        author_name=message.author_name,
        time=to_time(message.time) if message.HasField("time") else None,
        metadata=dict(message.metadata),
        external_id=message.external_id,
    )


def from_message(message: Message) -> pb.Message:
    """Return the protobuf message."""
    made = pb.Message()
    _fill_message(made, message)
    return made


def add_messages(target: Any, messages: Iterable[Message]) -> None:
    """Append to a repeated field of Message, in place: a page has many."""
    for message in messages:
        _fill_message(target.add(), message)


def _fill_message(made: pb.Message, message: Message) -> None:
    """Set an empty message; what most messages lack is only set where it is there."""
    made.message_id = message.message_id
    made.session_id = message.session_id
    made.sequence = message.sequence
    made.role = common.Role.ValueType(message.role)
    made.token_count = message.token_count
    set_time(made.time, message.time)
    set_time(made.create_time, message.create_time)
    add_parts(made.parts, message.parts)
    if message.author_name:
        made.author_name = message.author_name
    if message.metadata:
        made.metadata.update(message.metadata)
    if message.external_id:
        made.external_id = message.external_id


def from_episode(episode: Episode, user_id: str) -> pb.Episode:
    """Return the protobuf message."""
    return pb.Episode(
        user_id=user_id,
        episode_id=episode.episode_id,
        session_id=episode.session_id,
        title=episode.title,
        summary=episode.summary,
        start_time=from_time(episode.start_time),
        end_time=from_time(episode.end_time),
        first_sequence=episode.first_sequence,
        last_sequence=episode.last_sequence,
        model=episode.model,
    )


def to_new_fact(fact: pb.NewFact) -> NewFact:
    """Return the fact to store."""
    return NewFact(
        text=fact.text,
        fact_id=fact.fact_id,
        metadata=dict(fact.metadata),
        confidence=fact.confidence if fact.HasField("confidence") else 1.0,
        valid_from=to_time(fact.valid_from) if fact.HasField("valid_from") else None,
        valid_to=to_time(fact.valid_to) if fact.HasField("valid_to") else None,
        kind=FactKind(fact.kind or FactKind.OTHER),
    )


def to_fact_changes(request: pb.UpdateFactRequest) -> dict[str, object]:
    """Return the attributes that the mask names, with their new values."""
    fact = request.fact
    values: dict[str, object] = {
        "text": fact.text,
        "metadata": dict(fact.metadata),
        "confidence": fact.confidence,
        "valid_from": to_time(fact.valid_from) if fact.HasField("valid_from") else None,
        "valid_to": to_time(fact.valid_to) if fact.HasField("valid_to") else None,
        "kind": FactKind(fact.kind or FactKind.OTHER),
    }
    return {path: values[path] for path in request.update_mask.paths}


def from_fact(fact: Fact, user_id: str) -> pb.Fact:
    """Return the protobuf message."""
    return pb.Fact(
        user_id=user_id,
        fact_id=fact.fact_id,
        version=fact.version,
        text=fact.text,
        metadata=fact.metadata,
        confidence=fact.confidence,
        valid_from=from_time(fact.valid_from),
        valid_to=from_time(fact.valid_to) if fact.valid_to is not None else None,
        recorded_at=from_time(fact.recorded_at),
        sources=[
            pb.FactSource(
                session_id=source.session_id,
                first_sequence=source.first_sequence,
                last_sequence=source.last_sequence,
            )
            for source in fact.sources
        ],
        superseded_by=fact.superseded_by,
        kind=pb.FactKind.ValueType(fact.kind),
    )


def from_remembered(remembered: Remembered, user_id: str) -> pb.RememberResponse:
    """Return the response of Remember."""
    return pb.RememberResponse(
        facts=[from_fact(fact, user_id) for fact in remembered.facts],
        user_revision=remembered.user_revision,
        actions=_actions(remembered.results),
        degradations=degradations(by_rules=remembered.by_rules),
    )


def from_extracted(
    results: Sequence[Reconciled], through: int, user_id: str
) -> pb.ExtractFactsResponse:
    """Return the response of ExtractFacts."""
    return pb.ExtractFactsResponse(
        facts=[from_fact(result.fact, user_id) for result in results],
        through_sequence=through,
        actions=_actions(results),
    )


def _actions(results: Iterable[Reconciled]) -> list[pb.FactAction.ValueType]:
    return [pb.FactAction.ValueType(result.action) for result in results]


def to_fact_kinds(kinds: Iterable[int]) -> frozenset[FactKind]:
    """Return the kinds of facts asked for; none means all."""
    return frozenset(FactKind(kind) for kind in kinds)


def to_filter(filter: pb.RecallFilter) -> RecallFilter:
    """Return the domain's filter."""
    return RecallFilter(
        session_ids=frozenset(filter.session_ids),
        start=to_time(filter.start_time) if filter.HasField("start_time") else None,
        end=to_time(filter.end_time) if filter.HasField("end_time") else None,
        metadata=dict(filter.metadata),
        fact_kinds=to_fact_kinds(filter.fact_kinds),
    )


def _from_hit(hit: RecallHit, user_id: str, *, explain: bool) -> pb.RecallHit:
    message = pb.RecallHit(score=hit.score)
    if isinstance(hit.item, Fact):
        message.fact.CopyFrom(from_fact(hit.item, user_id))
    elif isinstance(hit.item, Episode):
        message.episode.CopyFrom(from_episode(hit.item, user_id))
    else:
        message.turn.CopyFrom(from_message(hit.item))
    if explain:
        message.explanation.extend(
            pb.ScoreTerm(name=term.name, value=term.value, weight=term.weight) for term in hit.terms
        )
    return message


def from_recalled(recalled: Recalled, user_id: str, *, explain: bool) -> pb.RecallResponse:
    """Return the response of Recall."""
    return pb.RecallResponse(
        hits=[_from_hit(hit, user_id, explain=explain) for hit in recalled.hits],
        indexed_revision=recalled.indexed_revision,
        degradations=degradations(words_only=recalled.words_only),
    )


def to_kinds(request: pb.RecallRequest) -> frozenset[MemoryKind]:
    """Return the kinds asked for; none named means all."""
    return frozenset(MemoryKind(kind) for kind in request.kinds) or frozenset(MemoryKind)


def to_context_options(options: pb.ContextOptions) -> ContextOptions:
    """Return the domain's options: the profile's, where they are not set."""
    said = {field.name: value for field, value in options.ListFields()}
    base = OPTIONS_OF[said.pop("profile", ContextProfile.FULL)]
    return replace(base, **said) if said else base


def add_context_items(target: Any, items: Iterable[ContextItem]) -> None:
    """Append to a repeated field of ContextItem, in place: a context has many."""
    for item in items:
        added = target.add()
        added.part = item.part
        added.item_id = item.item_id
        added.session_id = item.session_id
        added.sequence = item.sequence
        added.token_count = item.token_count
        added.score = item.score
        added.omitted = item.omitted


def from_context(context: Context) -> pb.GetContextResponse:
    """Return the response of GetContext."""
    response = pb.GetContextResponse(
        system=context.system,
        token_count=context.token_count,
        session_revision=context.session.revision,
        indexed_revision=context.indexed_revision,
        degradations=degradations(cache_down=context.cache_down, words_only=context.words_only),
    )
    add_prompt_messages(response.messages, context.messages)
    add_context_items(response.items, context.items)
    return response

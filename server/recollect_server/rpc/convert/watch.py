"""Conversions of Watch."""

from recollect.v1 import memory_pb2 as pb
from recollect_server.errors import InvalidArgument, Reason
from recollect_server.memory.model import Episode, Fact, Message, Session
from recollect_server.memory.watch import Change, Deleted, Position, SubjectKind
from recollect_server.rpc.convert.common import from_time
from recollect_server.rpc.convert.memory import (
    from_episode,
    from_fact,
    from_message,
    from_session,
)
from recollect_server.rpc.paging import decode, encode

LONGEST_NUMBER = 9


def _binding(request: pb.WatchRequest) -> tuple[str, ...]:
    return ("Watch", request.user_id, request.session_id)


def to_position(request: pb.WatchRequest) -> Position | None:
    """Return where to go on, None for an empty token.

    Raises:
        InvalidArgument: INVALID_PAGE_TOKEN.
    """
    cursor = decode(_binding(request), request.resume_token, "resume_token")
    if cursor is None:
        return None
    revision, number = cursor
    if not (number.isdecimal() and len(number) <= LONGEST_NUMBER):
        raise InvalidArgument(
            "resume_token", "must be a token of this method", Reason.INVALID_PAGE_TOKEN
        )
    return Position(revision, int(number))


def from_position(position: Position, request: pb.WatchRequest) -> str:
    """Return the token of a position."""
    return encode(_binding(request), (position.revision, str(position.number)))


def from_change(change: Change, request: pb.WatchRequest) -> pb.WatchResponse:
    """Return the protobuf message."""
    position = change.position
    response = pb.WatchResponse(
        resume_token=from_position(position, request),
        user_revision=position.revision,
        type=pb.ChangeType.ValueType(change.type),
        time=from_time(change.time),
    )
    subject, user_id = change.subject, request.user_id
    match subject:
        case Session():
            response.session.CopyFrom(from_session(subject, user_id))
        case Message():
            response.message.CopyFrom(from_message(subject))
        case Fact():
            response.fact.CopyFrom(from_fact(subject, user_id))
        case Episode():
            response.episode.CopyFrom(from_episode(subject, user_id))
        case Deleted():
            _set_ids(response, subject, user_id)
    return response


def _set_ids(response: pb.WatchResponse, gone: Deleted, user_id: str) -> None:
    match gone.kind:
        case SubjectKind.SESSION:
            response.session.user_id = user_id
            response.session.session_id = gone.session_id
        case SubjectKind.FACT:
            response.fact.user_id = user_id
            response.fact.fact_id = gone.item_id
        case _:
            response.episode.user_id = user_id
            response.episode.session_id = gone.session_id
            response.episode.episode_id = gone.item_id

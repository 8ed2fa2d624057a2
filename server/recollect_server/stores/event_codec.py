"""Events of turns and errors as bytes, for SQL and for messages between processes.

As in `codec`: kinds and positions are never reused, new fields go to the end.
"""

from collections.abc import Callable, Sequence
from typing import Any

from recollect_server import errors
from recollect_server.cache.model import CacheTier, MissReason
from recollect_server.chat.model import BlockKind, Delta, ToolUse
from recollect_server.chat.turn import (
    ChatEvent,
    ContextMade,
    Happening,
    Started,
    TurnCache,
)
from recollect_server.errors import Reason, RecollectError
from recollect_server.memory.context import ContextItem, ContextPart
from recollect_server.memory.prompt import Usage
from recollect_server.stores.codec import (
    CorruptDataError,
    decode_messages,
    encode_messages,
    pack,
    unpack,
)

_STARTED, _CONTEXT, _CACHE, _DELTA, _TOOL_USE, _USAGE = range(6)


def encode_events(events: Sequence[ChatEvent]) -> bytes:
    """Return the bytes of events that follow each other.

    Raises:
        ValueError: one is the end of a turn, which the turn's own row tells.
    """
    first = events[0].sequence if events else 0
    return pack([first, [_plain(event.happening) for event in events]])


def decode_events(data: bytes) -> tuple[ChatEvent, ...]:
    """Return the events of `encode_events`.

    Raises:
        CorruptDataError: the bytes are not events.
    """
    try:
        first, plain = unpack(data)
        return tuple(
            ChatEvent(first + position, _KINDS[kind](*fields))
            for position, (kind, *fields) in enumerate(plain)
        )
    except (TypeError, ValueError, IndexError) as error:
        raise CorruptDataError("not events of a turn") from error


def _plain(happening: Happening) -> list[Any]:
    match happening:
        case Delta(block, kind, text):
            return [_DELTA, block, int(kind), text]
        case Started(turn_id, attempt, message):
            return [_STARTED, turn_id, attempt, encode_messages([message])]
        case ContextMade(items, token_count, cache_down, words_only):
            plain = [
                [int(i.part), i.item_id, i.session_id, i.sequence, i.token_count, i.score,
                 i.omitted]
                for i in items
            ]  # fmt: skip
            return [_CONTEXT, plain, token_count, cache_down, words_only]
        case TurnCache(tier, entry_id, probability, reason):
            return [_CACHE, tier, entry_id, probability, reason]
        case ToolUse(block, call_id, name):
            return [_TOOL_USE, block, call_id, name]
        case Usage(given, made, read, written):
            return [_USAGE, given, made, read, written]
        case _:
            raise ValueError("the end of a turn is not among its stored events")


def _started(turn_id: str, attempt: int, message: bytes) -> Started:
    return Started(turn_id, attempt, decode_messages(message)[0])


def _context(
    items: list[list[Any]], token_count: int, cache_down: bool, words_only: bool
) -> ContextMade:
    made = tuple(ContextItem(ContextPart(part), *rest) for part, *rest in items)
    return ContextMade(made, token_count, cache_down, words_only)


def _cache(tier: int | None, entry_id: str, probability: float, reason: int | None) -> TurnCache:
    return TurnCache(
        CacheTier(tier) if tier is not None else None,
        entry_id,
        probability,
        MissReason(reason) if reason is not None else None,
    )


def _delta(block: int, kind: int, text: str) -> Delta:
    return Delta(block, BlockKind(kind), text)


_KINDS: tuple[Callable[..., Happening], ...] = (
    _started, _context, _cache, _delta, ToolUse, Usage,
)  # fmt: skip


def encode_error(error: RecollectError) -> bytes:
    """Return the bytes of an error that a turn ended in."""
    fields: list[Any] = [type(error).__name__, str(error.reason), error.message]
    match error:
        case errors.InvalidArgument():
            return pack([*fields[:2], *error.violations[0]])
        case errors.Unavailable() | errors.ResourceExhausted():
            return pack([*fields, error.retry_after])
    return pack(fields)


def decode_error(data: bytes) -> RecollectError:
    """Return the error of `encode_error`; of one that has a class of its own, what is common."""
    kind, reason, *rest = unpack(data)
    if kind == "InvalidArgument":
        field, description = rest
        return errors.InvalidArgument(field, description, Reason(reason))
    plain = _PLAIN.get(kind, errors.FailedPrecondition)
    return plain(Reason(reason), *rest)


_PLAIN: dict[str, Callable[..., RecollectError]] = {
    kind.__name__: kind
    for kind in (
        errors.Unavailable,
        errors.ResourceExhausted,
        errors.DeadlineExceeded,
        errors.Cancelled,
        errors.Aborted,
        errors.FailedPrecondition,
        errors.PermissionDenied,
    )
}

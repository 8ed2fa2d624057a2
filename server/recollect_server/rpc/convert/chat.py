"""Conversions of ChatService."""

from recollect.v1 import cache_pb2 as cache
from recollect.v1 import chat_pb2 as pb
from recollect_server.chat.model import BlockKind, Delta, ToolUse
from recollect_server.chat.turn import (
    CacheMode,
    ChatEvent,
    ChatOptions,
    ContextMade,
    Done,
    Interrupted,
    Started,
    Timings,
    Turn,
    TurnCache,
    TurnCacheOptions,
)
from recollect_server.memory.prompt import Usage
from recollect_server.rpc.convert.cache import DEFAULT_TTL, to_scope
from recollect_server.rpc.convert.common import (
    degradations,
    from_seconds,
    from_time,
    from_usage,
    to_parameters,
    to_tools,
)
from recollect_server.rpc.convert.memory import (
    add_context_items,
    from_message,
    to_context_options,
)


def to_options(options: pb.ChatOptions) -> ChatOptions:
    """Return how to run a turn."""
    return ChatOptions(
        model=options.model,
        system=options.system,
        parameters=to_parameters(options.parameters),
        tools=to_tools(options.tools),
        context=to_context_options(options.context),
        cache=TurnCacheOptions(
            mode=CacheMode(options.cache.mode or CacheMode.READ_WRITE),
            scope=to_scope(options.cache.scope),
            ttl=options.cache.ttl.ToTimedelta() if options.cache.HasField("ttl") else DEFAULT_TTL,
            tags=tuple(options.cache.tags),
        ),
        cancel_on_disconnect=options.on_disconnect == pb.ON_DISCONNECT_CANCEL,
        abort_if_busy=options.concurrency == pb.TURN_CONCURRENCY_ABORT,
        timeout=options.turn_timeout.ToTimedelta() or ChatOptions().timeout,
    )


def _from_cache(cached: TurnCache) -> pb.TurnCache:
    return pb.TurnCache(
        hit=cached.tier is not None,
        tier=cache.CacheTier.ValueType(cached.tier or 0),
        entry_id=cached.entry_id,
        probability=cached.probability,
        miss_reason=cache.MissReason.ValueType(cached.miss_reason or 0),
    )


def _from_timings(timings: Timings) -> pb.TurnTimings:
    return pb.TurnTimings(
        first_token=from_seconds(timings.first_token),
        context=from_seconds(timings.context),
        cache=from_seconds(timings.cache),
        model_first_token=from_seconds(timings.model_first_token),
        total=from_seconds(timings.total),
    )


def from_turn(turn: Turn, user_id: str) -> pb.Turn:
    """Return the protobuf message."""
    record = turn.record
    return pb.Turn(
        turn_id=record.turn_id,
        user_id=user_id,
        session_id=record.session_id,
        request_id=record.request_id,
        state=pb.TurnState.ValueType(record.state),
        attempt=record.attempt,
        user_message=from_message(turn.user_message),
        reply=from_message(turn.reply) if turn.reply is not None else None,
        model=record.model,
        finish_reason=pb.FinishReason.ValueType(record.finish_reason or 0),
        usage=from_usage(record.usage),
        cost_usd=record.cost_usd,
        cache=_from_cache(turn.cache),
        timings=_from_timings(turn.timings) if turn.timings is not None else None,
        create_time=from_time(record.create_time),
        update_time=from_time(record.update_time),
    )


def _fill_delta(message: pb.ChatDelta, delta: Delta) -> None:
    message.block_index = delta.block
    match delta.kind:
        case BlockKind.TEXT:
            message.text = delta.text
        case BlockKind.THINKING:
            message.thinking = delta.text
        case BlockKind.TOOL_INPUT:
            message.tool_input_json = delta.text


def fill_event(message: pb.ChatEvent, event: ChatEvent, user_id: str) -> None:
    """Fill an empty message: a stream has hundreds of them, and a copy takes as long again."""
    message.sequence = event.sequence
    match event.happening:
        case Delta() as delta:
            _fill_delta(message.delta, delta)
        case Started(turn_id, attempt, user_message):
            message.started.turn_id = turn_id
            message.started.attempt = attempt
            message.started.user_message.CopyFrom(from_message(user_message))
        case ContextMade() as context:
            add_context_items(message.context.items, context.items)
            message.context.token_count = context.token_count
            message.context.degradations.extend(
                degradations(cache_down=context.cache_down, words_only=context.words_only)
            )
        case TurnCache() as cached:
            message.cache.CopyFrom(_from_cache(cached))
        case ToolUse(block, call_id, name):
            message.tool_use.CopyFrom(pb.ChatToolUse(block_index=block, call_id=call_id, name=name))
        case Usage() as usage:
            message.usage.CopyFrom(from_usage(usage))
        case Interrupted(turn):
            message.interrupted.turn.CopyFrom(from_turn(turn, user_id))
        case Done(turn):
            message.done.turn.CopyFrom(from_turn(turn, user_id))

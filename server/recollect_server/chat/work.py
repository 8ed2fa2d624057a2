"""What turns work with, and what a caller asks of one."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from recollect_server.cache.service import AnswerCache
from recollect_server.chat.following import Following
from recollect_server.chat.keeper import Keeper
from recollect_server.chat.ports import ChatModel, Flights, Relay, TurnStore
from recollect_server.chat.turn import ChatOptions
from recollect_server.memory.audit import AuditLog, Caller
from recollect_server.memory.context_builder import ContextBuilder
from recollect_server.memory.model import NewMessage
from recollect_server.memory.watch import Notices
from recollect_server.scope import RequestKey, Scope


@dataclass(frozen=True, slots=True)
class Collaborators:
    """What a turn works with.

    Attributes:
        notices: tells of changes in any process, so that a turn that waits hears of its session.
        changed: told whose memory a turn changed.
        charge: told how many tokens of a model a user's turn used.
    """

    contexts: ContextBuilder
    cache: AnswerCache
    turns: TurnStore
    flights: Flights
    keeper: Keeper
    following: Following
    relay: Relay
    notices: Notices
    model: ChatModel
    changed: Callable[[Scope], None]
    audit: AuditLog
    charge: Callable[[Scope, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a caller asks of a turn."""

    scope: Scope
    session_id: str
    message: NewMessage
    options: ChatOptions
    request: RequestKey
    caller: Caller

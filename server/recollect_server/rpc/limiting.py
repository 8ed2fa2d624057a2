"""The interceptor that counts calls towards the limits of their tenant and their user."""

from collections.abc import Awaitable, Callable
from typing import Any

from recollect_server.admin.limits import Limit
from recollect_server.admin.quotas import Costs, Quotas
from recollect_server.rpc.call import Call
from recollect_server.rpc.interceptors import Check
from recollect_server.scope import Scope

UNCOUNTED = frozenset({"/recollect.v1.AdminService/GetUsage"})
"""What tells of limits can be asked when they are used up."""

_ONE: Costs = ((Limit.REQUESTS, 1),)


def _of_append(request: Any) -> Costs:
    count = max(1, len(request.messages))
    return (*_ONE, (Limit.MESSAGES, count), (Limit.STORED_MESSAGES, count))


def _of_turn(request: Any) -> Costs:
    # The tokens that it uses are charged when the model has answered; the reply is stored, too.
    return (*_ONE, (Limit.MESSAGES, 1), (Limit.TOKENS, 1), (Limit.STORED_MESSAGES, 2))


def _of_remember(request: Any) -> Costs:
    return (*_ONE, (Limit.STORED_FACTS, max(1, len(request.facts))))


def _of_lookups(request: Any) -> Costs:
    return ((Limit.REQUESTS, max(1, len(request.lookups))),)


COSTS: dict[str, Callable[[Any], Costs]] = {
    "/recollect.v1.MemoryService/AppendMessages": _of_append,
    "/recollect.v1.MemoryService/Remember": _of_remember,
    "/recollect.v1.CacheService/BatchLookup": _of_lookups,
    "/recollect.v1.ChatService/Chat": _of_turn,
    "/recollect.v1.ChatService/StreamChat": _of_turn,
}
"""What calls cost that cost more than a request."""


class Limiting(Check):
    """Refuses a call whose tenant or user has used up a limit.

    It stands before validation: a request that is wrong counts, too, and costs as little as can be.
    """

    def __init__(self, quotas: Quotas) -> None:
        self._quotas = quotas

    def check(self, call: Call, request: Any) -> Awaitable[None] | None:
        """See `Check`."""
        if call.method in UNCOUNTED:
            return None
        costs = COSTS.get(call.method)
        principal = call.principal
        scope = call.scope_ or Scope(principal.tenant, principal.user_id)
        return self._quotas.admit(
            scope, _ONE if costs is None else costs(request), call.context.time_remaining
        )

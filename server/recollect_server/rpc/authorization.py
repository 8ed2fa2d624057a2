"""Which role each method needs. A test asserts that every method of the contract is listed."""

from typing import NamedTuple

from recollect_server.admin.model import KeyRole, Service
from recollect_server.errors import PermissionDenied, Reason
from recollect_server.rpc.call import Principal

_ANY, _READ, _WRITE, _ADMIN = KeyRole.NONE, KeyRole.READER, KeyRole.WRITER, KeyRole.ADMIN

ROLE_OF: dict[str, dict[str, KeyRole]] = {
    "recollect.v1.MemoryService": {
        "CreateSession": _WRITE,
        "GetSession": _READ,
        "ListSessions": _READ,
        "UpdateSession": _WRITE,
        "ClearSession": _WRITE,
        "DeleteSession": _WRITE,
        "AppendMessages": _WRITE,
        "ListMessages": _READ,
        "GetContext": _READ,
        "Remember": _WRITE,
        "Recall": _READ,
        "GetFact": _READ,
        "ListFacts": _READ,
        "UpdateFact": _WRITE,
        "ForgetFact": _WRITE,
        "GetFactHistory": _READ,
        "ExtractFacts": _WRITE,
        "CompactSession": _WRITE,
        "ListEpisodes": _READ,
        "GetEpisode": _READ,
        "Watch": _READ,
    },
    "recollect.v1.CacheService": {
        "Lookup": _READ,
        "BatchLookup": _READ,
        "Store": _WRITE,
        "Invalidate": _WRITE,
        "ReportFeedback": _WRITE,
        "GetStats": _READ,
        "ListEntries": _READ,
        "GetEntry": _READ,
    },
    "recollect.v1.ChatService": {
        "Chat": _WRITE,
        "StreamChat": _WRITE,
        "ResumeChat": _READ,
        "GetTurn": _READ,
        "CancelTurn": _WRITE,
    },
    "recollect.v1.AdminService": {
        "EraseUser": _ADMIN,
        "ExportUser": _ADMIN,
        "ImportUser": _ADMIN,
        "ListAuditEvents": _ADMIN,
        "CreateApiKey": _ADMIN,
        "ListApiKeys": _ADMIN,
        "RevokeApiKey": _ADMIN,
        "Reindex": _ADMIN,
        "ListJobs": _ADMIN,
        "RetryJob": _ADMIN,
        "GetServerInfo": _ANY,
        "GetUsage": _READ,
    },
}


class Rule(NamedTuple):
    """What a method asks of a credential: a role on its service."""

    service: Service
    role: KeyRole


def service_of(full_name: str) -> Service:
    """Return the short name of `recollect.v1.MemoryService` and the like."""
    return Service(full_name.rpartition(".")[2].removesuffix("Service").lower())


def authorize(principal: Principal, rule: Rule) -> None:
    """Check that a caller may call a method.

    Raises:
        PermissionDenied: ROLE_REQUIRED.
    """
    if principal.grants.on(rule.service) < rule.role:
        raise PermissionDenied(
            Reason.ROLE_REQUIRED,
            f"the method needs the role {rule.role.name} on the service {rule.service.name}",
        )
    if rule.role is KeyRole.ADMIN and principal.user_id:
        raise PermissionDenied(Reason.ROLE_REQUIRED, "a credential of one user administers nothing")

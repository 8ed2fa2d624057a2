"""Whose data a call is about. Every store method takes a scope first; there is no way around it."""

from dataclasses import dataclass

from msgspec import Struct


class Scope(Struct, frozen=True):
    """One user of one tenant.

    Attributes:
        tenant: from the caller's credential, `default` without authentication.
        user_id: from the request, checked against the credential.
    """

    tenant: str
    user_id: str


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Identity of an idempotent call: unique per tenant, user and method for 24 hours.

    Attributes:
        method: the RPC's bare name, as in `AppendMessages`.
        request_id: the caller's UUID.
        digest: SHA-256 of the request without its request_id; another digest under the same id is
            refused with REQUEST_ID_REUSED.
    """

    method: str
    request_id: str
    digest: bytes

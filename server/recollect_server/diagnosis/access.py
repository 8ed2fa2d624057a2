"""Checks of what a server reads at its start to know its callers and to record them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

from recollect_server.access import Authentication
from recollect_server.config import Settings
from recollect_server.diagnosis.finding import Finding, fail, ok
from recollect_server.parts import StartError, open_audit_key
from recollect_server.rpc.auditing import audited
from recollect_server.security import open_tokens


async def check_access(settings: Settings) -> AsyncIterator[Finding]:
    """Look whether tokens can be checked, and audit events be recorded and signed."""
    if Authentication.JWT in settings.auth:
        async with AsyncExitStack() as stack:
            try:
                open_tokens(stack, settings)
            except StartError as error:
                yield fail("tokens", str(error), "name the issuer's key set with --jwt-jwks")
            else:
                yield ok("tokens", f"of {settings.jwt_issuer} can be checked")
    try:
        audited(settings.audit)
    except ValueError as error:
        yield fail("audit", str(error), "name methods, reads, writes or admin with --audit")
    if settings.audit_key.get_secret_value():
        try:
            open_audit_key(settings)
        except StartError as error:
            yield fail("audit", str(error), "docs/audit.md says how a key is made")

"""Opens what the settings say of TLS and of credentials."""

from contextlib import AsyncExitStack
from pathlib import Path

import grpc

from recollect_server.access import Authentication
from recollect_server.admin.keys import ApiKeys
from recollect_server.config import Settings
from recollect_server.parts import StartError
from recollect_server.rpc.authentication import ApiKeyVerifier, Authenticator, Verifier
from recollect_server.rpc.call import Principal
from recollect_server.rpc.tls import CertificatePeers, TlsFiles, TlsFilesError, server_credentials
from recollect_server.rpc.tokens import (
    FileKeySource,
    JwtVerifier,
    KeySet,
    TokenRules,
    UrlKeySource,
    parse_keys,
)


def open_authenticator(
    stack: AsyncExitStack, settings: Settings, keys: ApiKeys
) -> Authenticator | None:
    """Return who finds out who calls, or None where callers need no credential."""
    if not settings.auth:
        return None
    verifiers: list[Verifier] = []
    if Authentication.API_KEY in settings.auth:
        verifiers.append(ApiKeyVerifier(keys))
    if Authentication.JWT in settings.auth:
        verifiers.append(open_tokens(stack, settings))
    peers = None
    if Authentication.MTLS in settings.auth:
        peers = CertificatePeers(
            {
                name: Principal(its.tenant, its.user_id, its.grants, f"certificate:{name}")
                for name, its in settings.certificates.items()
            }
        )
    return Authenticator(tuple(verifiers), peers)


def open_tokens(stack: AsyncExitStack, settings: Settings) -> JwtVerifier:
    """Return what checks tokens. Raises `StartError` if a file holds no key set."""
    rules = TokenRules(
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        algorithms=settings.jwt_algorithms,
        leeway=settings.jwt_leeway,
        tenant_claim=settings.jwt_tenant_claim,
        user_claim=settings.jwt_user_claim,
        role_claim=settings.jwt_role_claim,
        role_prefix=settings.jwt_role_prefix,
    )
    if "://" in settings.jwt_jwks:
        source = UrlKeySource(settings.jwt_jwks)
        stack.push_async_callback(source.close)
        return JwtVerifier(KeySet(source), rules)
    path = Path(settings.jwt_jwks)
    try:
        parse_keys(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StartError(f"jwt_jwks {path}: {error}") from error
    return JwtVerifier(KeySet(FileKeySource(path)), rules)


def open_credentials(settings: Settings) -> grpc.ServerCredentials | None:
    """Return TLS, or None for plain text."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        return server_credentials(
            TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        )
    except (OSError, TlsFilesError) as error:
        raise StartError(str(error)) from error

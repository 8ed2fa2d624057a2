"""Settings of who reaches the server and how callers prove who they are.

What would leave memory open, or would look like protection and be none, is refused at start.
"""

import ipaddress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from recollect_server.admin.model import Grants, KeyRole, Service

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""Those whose keys can be published. A secret shared with the issuer could forge its tokens."""


LARGEST_PORT = 65_535


class Authentication(StrEnum):
    """How callers prove who they are."""

    API_KEY = "api-key"
    JWT = "jwt"
    MTLS = "mtls"


class CertificateSettings(BaseModel):
    """Who a client is that shows a certificate.

    Attributes:
        user_id: the only user it may name; empty for a service, which may name any.
        role: what it may do, as `admin.model.Grants` is written.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tenant: str = Field(min_length=1, max_length=256)
    user_id: str = Field("", max_length=256)
    role: str

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.grants:
            raise ValueError("role must be reader, writer or admin")
        if self.user_id and self.grants.on(Service.ADMIN) is KeyRole.ADMIN:
            raise ValueError("role admin goes with no user_id")
        return self

    @property
    def grants(self) -> Grants:
        """What it may do."""
        return Grants.parse(self.role)


class AccessSettings(BaseSettings):
    """The part of the settings that keeps others out.

    Attributes:
        listen: HOST:PORT or unix:PATH.
        auth: the kinds of credential that are taken, as in `api-key,jwt`; `none` for none.
        tls_cert: a PEM chain; like the other TLS files read again when it changes.
        tls_client_ca: authorities; every client must then show a certificate of theirs.
        certificates: who the clients are that `auth` mtls knows, by a subject alternative name or
            the common name, in the TOML file: [certificates."NAME"].
        insecure: the network is trusted: neither TLS nor credentials are asked for.
        jwt_jwks: https URL, or path of a file, of the issuer's JSON Web Key Set.
        jwt_issuer: what a token's `iss` must be.
        jwt_audience: what a token's `aud` must name.
        jwt_algorithms: what a token may be signed with.
        jwt_leeway: seconds that the issuer's clock may differ.
        jwt_tenant_claim: the claim that names the tenant; empty puts every token in `default`.
        jwt_user_claim: the claim that names the user.
        jwt_role_claim: the claim that holds roles, a text of words or a list of them.
        jwt_role_prefix: what the words begin with that are meant for this server.
    """

    listen: str = "127.0.0.1:50051"
    auth: Annotated[tuple[Authentication, ...], NoDecode] = ()
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    certificates: dict[str, CertificateSettings] = Field(default_factory=dict)
    insecure: bool = False
    jwt_jwks: str = ""
    jwt_issuer: str = ""
    jwt_audience: str = ""
    jwt_algorithms: Annotated[tuple[str, ...], NoDecode] = ("RS256", "ES256", "EdDSA")
    jwt_leeway: float = Field(30.0, ge=0, le=300)
    jwt_tenant_claim: str = "tenant"
    jwt_user_claim: str = Field("sub", min_length=1)
    jwt_role_claim: str = Field("role", min_length=1)
    jwt_role_prefix: str = ""

    @field_validator("tls_cert", "tls_key", "tls_client_ca", mode="before")
    @classmethod
    def _no_file(cls, value: Any) -> Any:
        return none_if_empty(value)

    @field_validator("auth", "jwt_algorithms", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return words(value)

    @field_validator("listen", "health_listen", "metrics_listen", check_fields=False)
    @classmethod
    def _check_address(cls, value: str) -> str:
        if value.startswith(("unix:", "unix-abstract:")):
            return value
        host, _, port = value.rpartition(":")
        # gRPC would take what is left of a larger one for the port.
        if value and not (host and port.isdecimal() and int(port) <= LARGEST_PORT):
            raise ValueError(f"must be HOST:PORT with a port up to {LARGEST_PORT}")
        return value

    @model_validator(mode="after")
    def _check_access(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key go together")
        safe = self.tls_cert is not None and self.auth
        if not (is_local(self.listen) or safe or self.insecure):
            raise ValueError(
                f"listening on {self.listen} needs TLS (--tls-cert, --tls-key) and --auth api-key, "
                "jwt or mtls, or --insecure to say that the network is trusted"
            )
        self._check_certificates()
        self._check_tokens()
        return self

    def _check_certificates(self) -> None:
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs TLS (--tls-cert, --tls-key)")
        if Authentication.MTLS not in self.auth:
            if self.certificates:
                raise ValueError("certificates are set, but auth does not name mtls")
            return
        if self.tls_client_ca is None:
            raise ValueError("auth mtls needs --tls-client-ca, the authorities of clients")
        if not self.certificates:
            raise ValueError("auth mtls needs [certificates] to say who the clients are")

    def _check_tokens(self) -> None:
        if Authentication.JWT not in self.auth:
            for name, field in type(self).model_fields.items():
                if name.startswith("jwt_") and getattr(self, name) != field.default:
                    raise ValueError(f"{name} is set, but auth does not name jwt")
            return
        given = {n: getattr(self, n) for n in ("jwt_jwks", "jwt_issuer", "jwt_audience")}
        for name, value in given.items():
            if not value:
                raise ValueError(f"auth jwt needs {name}")
        wrong = set(self.jwt_algorithms) - set(ALGORITHMS)
        if wrong or not self.jwt_algorithms:
            raise ValueError(f"jwt_algorithms must be of {', '.join(ALGORITHMS)}")
        url = urlsplit(self.jwt_jwks)
        if url.scheme not in ("https", "http", ""):
            raise ValueError("jwt_jwks must be an https URL or the path of a file")
        if url.scheme == "http" and not (is_local(f"{url.hostname}:0") or self.insecure):
            raise ValueError(
                "jwt_jwks would read the issuer's keys in plain text, so that anyone on the way "
                "could make tokens: use https"
            )


def none_if_empty(value: Any) -> Any:
    """Return None for an empty text, which would be this folder's name as a path.

    Compose files pass on a variable that may not be set as `NAME: ${NAME:-}`.
    """
    return None if value == "" else value


def words(value: Any) -> Any:
    """Return the words of a text that commas part, none of `none`; anything else as it is."""
    if not isinstance(value, str):
        return value
    found = tuple(word.strip() for word in value.split(","))
    return () if found in (("none",), ("",)) else found


def is_local(listen: str) -> bool:
    """Whether only this machine can reach the address."""
    if listen.startswith(("unix:", "unix-abstract:")):
        return True
    host = listen.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

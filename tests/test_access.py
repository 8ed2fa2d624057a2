"""Settings of access: what is refused at start, as a table of combinations."""

import itertools

import pytest
from pydantic import ValidationError

from recollect_server import config

LOCAL, PUBLIC = "127.0.0.1:50051", "0.0.0.0:50051"
JWT = {"auth": "jwt", "jwt_jwks": "https://i/jwks", "jwt_issuer": "i", "jwt_audience": "a"}
CLIENTS = {"ada": {"tenant": "acme", "role": "writer"}}
MTLS = {"auth": "mtls", "tls_client_ca": "ca", "certificates": CLIENTS}
TLS = {"tls_cert": "crt", "tls_key": "key"}
TRUSTED = {"insecure": True}


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("REDIS_URL", "VALKEY_URL", "DATABASE_URL", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def _refusal(**settings):
    try:
        config.load(**settings)
    except ValidationError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("listen", "auth", "tls", "trusted"),
    list(
        itertools.product(
            (
                LOCAL,
                "unix:/tmp/r.sock",
                "[::1]:1",
                PUBLIC,
                "10.1.2.3:1",
                "[::]:1",
                "host.example:1",
            ),
            ({}, {"auth": "api-key"}, JWT, MTLS, {**JWT, "auth": "api-key,jwt"}),
            ({}, TLS),
            ({}, TRUSTED),
        )
    ),
)
def test_others_are_reached_with_tls_and_credentials_or_where_the_network_is_trusted(
    listen, auth, tls, trusted
):
    local = listen in (LOCAL, "unix:/tmp/r.sock", "[::1]:1")
    safe = local or (auth and tls) or trusted
    without_tls = auth is MTLS and not tls
    refusal = _refusal(listen=listen, **auth, **tls, **trusted)
    assert bool(refusal) is (not safe or without_tls), refusal


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"tls_cert": "crt"}, "go together"),
        ({"tls_key": "key"}, "go together"),
        ({"auth": "password"}, "auth"),
        ({"auth": "api-key,none"}, "auth"),
        ({"auth": "api-key,"}, "auth"),
        # Protection that is none.
        ({"tls_client_ca": "ca"}, "tls_client_ca needs TLS"),
        ({"certificates": CLIENTS}, "auth does not name mtls"),
        ({"auth": "api-key", "certificates": CLIENTS, **TLS}, "auth does not name mtls"),
        ({"jwt_jwks": "https://i/jwks"}, "auth does not name jwt"),
        ({"auth": "api-key", "jwt_issuer": "i"}, "auth does not name jwt"),
        ({"jwt_audience": "a"}, "auth does not name jwt"),
        ({"jwt_algorithms": "HS256"}, "auth does not name jwt"),
        ({"auth": "api-key", "jwt_tenant_claim": "org"}, "auth does not name jwt"),
        # Credentials that nothing says how to check.
        *(({**JWT, name: ""}, f"needs {name}") for name in JWT if name != "auth"),
        ({**MTLS}, "needs TLS"),
        ({**MTLS, **TLS, "tls_client_ca": None}, "needs --tls-client-ca"),
        ({**MTLS, **TLS, "certificates": {}}, "to say who the clients are"),
        # Tokens that others could make.
        ({**JWT, "jwt_algorithms": "HS256"}, "jwt_algorithms"),
        ({**JWT, "jwt_algorithms": "RS256,HS256"}, "jwt_algorithms"),
        ({**JWT, "jwt_algorithms": "none"}, "jwt_algorithms"),
        ({**JWT, "jwt_algorithms": ""}, "jwt_algorithms"),
        ({**JWT, "jwt_jwks": "http://issuer.example/jwks"}, "plain text"),
        ({**JWT, "jwt_jwks": "ftp://issuer.example/jwks"}, "jwt_jwks"),
        ({**JWT, "jwt_leeway": 3600}, "jwt_leeway"),
        ({**JWT, "jwt_user_claim": ""}, "jwt_user_claim"),
        # Clients that are nobody, or too much.
        ({**MTLS, **TLS, "certificates": {"x": {"role": "writer"}}}, "tenant"),
        ({**MTLS, **TLS, "certificates": {"x": {"tenant": "", "role": "writer"}}}, "tenant"),
        ({**MTLS, **TLS, "certificates": {"x": {"tenant": "t", "role": "root"}}}, "root"),
        ({**MTLS, **TLS, "certificates": {"x": {"tenant": "t", "role": ""}}}, "role"),
        (
            {
                **(MTLS | TLS),
                "certificates": {"x": {"tenant": "t", "role": "admin", "user_id": "u"}},
            },
            "goes with no user_id",
        ),
    ],
)
def test_what_protects_nothing_or_lets_others_in_is_refused(settings, text):
    assert text in _refusal(**settings)


def test_what_is_complete_is_taken_from_the_environment_and_the_file(tmp_path, monkeypatch):
    file = tmp_path / "recollect.toml"
    file.write_text(
        'auth = "mtls"\ntls_cert = "c"\ntls_key = "k"\ntls_client_ca = "a"\n'
        '[certificates."spiffe://x/y"]\ntenant = "t"\nrole = "reader cache=writer"\n'
    )
    settings = config.load(file)
    assert str(settings.certificates["spiffe://x/y"].grants) == "reader cache=writer"
    monkeypatch.setenv("RECOLLECT_AUTH", "api-key, jwt")
    monkeypatch.setenv("RECOLLECT_JWT_ALGORITHMS", "ES256,PS512")
    settings = config.load(jwt_jwks="http://127.0.0.1:1/k", jwt_issuer="i", jwt_audience="a")
    assert settings.auth == ("api-key", "jwt")
    assert settings.jwt_algorithms == ("ES256", "PS512")


def test_no_credentials_are_asked_for_where_none_is_named():
    assert config.load(auth="none").auth == ()

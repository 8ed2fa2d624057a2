"""JSON Web Tokens: which are accepted, for whom, and by which keys."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
import warnings

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.issuer import AUDIENCE, ISSUER, Issuer, IssuerServer

from recollect_server.admin.model import Grants
from recollect_server.errors import Unauthenticated, Unavailable
from recollect_server.rpc import tokens
from recollect_server.rpc.tokens import (
    FileKeySource,
    JwtVerifier,
    KeySet,
    TokenRules,
    UrlKeySource,
    parse_keys,
)

RULES = {
    "issuer": ISSUER,
    "audience": AUDIENCE,
    "algorithms": ("ES256", "RS256", "EdDSA"),
    "leeway": 30.0,
    "tenant_claim": "tenant",
    "user_claim": "sub",
    "role_claim": "role",
    "role_prefix": "",
}


class Source:
    """The issuer's keys without a network."""

    def __init__(self, issuer):
        self.issuer = issuer

    async def read(self):
        self.issuer.fetches += 1
        if self.issuer.down:
            raise OSError
        return json.dumps(self.issuer.key_set()).encode()

    async def close(self):
        """Nothing is open."""


def _verifier(issuer, **rules):
    return JwtVerifier(KeySet(Source(issuer)), TokenRules(**(RULES | rules)))


_KNOWN = Issuer()
_KNOWN.add_key("one")
_FUZZED = _verifier(_KNOWN)


@pytest.fixture
def issuer():
    made = Issuer()
    made.add_key("one")
    return made


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
async def test_a_token_says_tenant_user_and_role(issuer, algorithm):
    issuer.add_key("two", algorithm)
    token = issuer.token("two")
    verifier = _verifier(issuer)
    assert verifier.recent(token) is None
    principal = await verifier.verify(token)
    assert (principal.tenant, principal.user_id, principal.key_id) == ("acme", "ada", "jwt:ada")
    assert principal.grants == Grants.parse("writer")
    assert verifier.recent(token) == principal


def _unsigned(issuer):
    parts = [
        {"alg": "none", "kid": "one"},
        jwt.decode(issuer.token("one"), options={"verify_signature": False}),
    ]
    return (
        ".".join(
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in parts
        )
        + "."
    )


def _by_public_key(issuer):
    """The public key, which anyone has, used as a secret."""
    pem = (
        issuer.keys["one"][1]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').decode().rstrip("=")
    body = issuer.token("one").split(".")[1]
    mac = hmac.new(pem, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{head}.{body}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def _of_another(issuer):
    other = Issuer()
    other.add_key("one")
    return other.token("one")


WRONG = {
    "another issuer": lambda i: i.token("one", iss="https://evil.example"),
    "another audience": lambda i: i.token("one", aud="billing"),
    "no audience": lambda i: i.token("one", aud=None),
    "no issuer": lambda i: i.token("one", iss=None),
    "no expiry": lambda i: i.token("one", exp=None),
    "expired": lambda i: i.token("one", exp=time.time() - 31),
    "not yet": lambda i: i.token("one", nbf=time.time() + 60),
    "no tenant": lambda i: i.token("one", tenant=None),
    "an empty tenant": lambda i: i.token("one", tenant=""),
    "a tenant with NUL": lambda i: i.token("one", tenant="a\0b"),
    "a tenant that is a list": lambda i: i.token("one", tenant=["acme"]),
    "no user and no word that it is a service": lambda i: i.token("one", sub=None),
    "half a character as the user": lambda i: i.token("one", sub="\ud800"),
    "a long user": lambda i: i.token("one", sub="é" * 129),
    "no signature": _unsigned,
    "the public key as a secret": _by_public_key,
    "another's key of the same name": _of_another,
    "a key that is not published": lambda i: i.token("hidden"),
    "an algorithm that is not the key's": lambda i: i.token("two", header={"kid": "one"}),
    "not JSON": lambda i: "a.b.c",
    "cut": lambda i: i.token("one")[:-4],
}


@pytest.mark.parametrize("how", WRONG)
async def test_a_wrong_token_is_refused(issuer, how):
    issuer.add_key("hidden", publish=False)
    issuer.add_key("two", "RS256")
    verifier, token = _verifier(issuer), WRONG[how](issuer)
    for _ in range(2):
        with pytest.raises(Unauthenticated) as caught:
            await verifier.verify(token)
        assert token not in caught.value.message
        assert verifier.recent(token) is None
    assert await verifier.verify(issuer.token("one"))


async def test_an_algorithm_that_is_not_allowed_is_refused(issuer):
    with pytest.raises(Unauthenticated, match="algorithm"):
        await _verifier(issuer, algorithms=("RS256",)).verify(issuer.token("one"))


async def test_the_issuer_s_clock_may_differ_a_little(issuer):
    token = issuer.token("one", exp=time.time() - 10, iat=time.time() + 10)
    principal = await _verifier(issuer).verify(token)
    assert principal.expires is not None
    assert principal.expires > time.time()
    with pytest.raises(Unauthenticated):
        await _verifier(issuer, leeway=0.0).verify(token)


async def test_an_issuer_s_short_key_is_not_trusted(issuer):
    issuer.keys["short"] = ("RS256", rsa.generate_private_key(65537, 1024))
    issuer.published.append("short")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)
        token = issuer.token("short")
    with pytest.raises(Unauthenticated):
        await _verifier(issuer).verify(token)


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
_HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["ES256", "RS256", "none", "HS256"]) | _JSON,
        "kid": st.just("one") | _JSON,
        **dict.fromkeys(("typ", "crit", "b64", "jwk", "jku", "x5c", "zip", "cty"), _JSON),
    },
)


def _part(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@settings(deadline=None)
@given(
    st.text(max_size=60)
    | st.tuples(_HEADERS | _JSON, _JSON, st.binary(max_size=70)).map(
        lambda t: f"{_part(t[0])}.{_part(t[1])}.{base64.urlsafe_b64encode(t[2]).decode()}"
    )
)
def test_whatever_is_sent_as_a_token_is_refused_and_breaks_nothing(token):
    async def check():
        with pytest.raises(Unauthenticated):
            await _FUZZED.verify(token)

    asyncio.run(check())


async def test_a_service_is_named_as_one_and_may_name_any_user(issuer):
    token = issuer.token("one", sub="billing", role=["writer", "service"])
    principal = await _verifier(issuer).verify(token)
    assert (principal.user_id, principal.key_id) == ("", "jwt:billing")
    nameless = issuer.token("one", sub="a\0b", role="writer service")
    assert (await _verifier(issuer).verify(nameless)).key_id == "jwt:"


@pytest.mark.parametrize(
    ("rules", "claims"),
    [
        ({}, {"role": "offline reader cache=writer openid"}),
        ({}, {"role": ["reader", "cache=writer", "cache=reader", 7]}),
        ({"role_prefix": "recollect:"}, {"role": "admin recollect:reader recollect:cache=writer"}),
        (
            {"role_claim": "realm_access.roles"},
            {"role": "admin", "realm_access": {"roles": ["reader", "cache=writer"]}},
        ),
        (
            {"role_claim": "https://r.example/roles"},
            {"role": None, "https://r.example/roles": ["reader cache=writer"]},
        ),
    ],
)
async def test_roles_are_the_words_meant_for_this_server(issuer, rules, claims):
    principal = await _verifier(issuer, **rules).verify(issuer.token("one", **claims))
    assert str(principal.grants) == "reader cache=writer"


async def test_a_token_without_a_role_allows_nothing(issuer):
    assert not (await _verifier(issuer).verify(issuer.token("one", role=None))).grants


async def test_other_claims_may_name_tenant_and_user(issuer):
    verifier = _verifier(issuer, tenant_claim="", user_claim="email")
    principal = await verifier.verify(issuer.token("one", tenant=None, email="a@example.org"))
    assert (principal.tenant, principal.user_id) == ("default", "a@example.org")


async def test_a_new_key_is_fetched_when_a_token_names_it_but_not_at_any_rate(issuer, monkeypatch):
    verifier = _verifier(issuer)
    await verifier.verify(issuer.token("one"))
    issuer.add_key("two")
    issuer.add_key("never", publish=False)
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            await verifier.verify(issuer.token("never", jti=str(_)))
    assert issuer.fetches == 1
    monkeypatch.setattr(tokens, "REFETCH_SECONDS", 0.0)
    assert await verifier.verify(issuer.token("two"))
    assert issuer.fetches == 2


async def test_a_key_that_was_withdrawn_is_refused_once_the_set_is_old(issuer, monkeypatch):
    verifier = _verifier(issuer)
    token = issuer.token("one")
    await verifier.verify(token)
    issuer.add_key("two")
    issuer.published.remove("one")
    monkeypatch.setattr(tokens, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(tokens, "REFETCH_SECONDS", 0.0)
    with pytest.raises(Unauthenticated):
        await verifier.verify(issuer.token("one", jti="2"))


async def test_an_issuer_that_is_down_keeps_nobody_out_who_is_known(issuer, monkeypatch):
    monkeypatch.setattr(tokens, "REFRESH_SECONDS", 0.0)
    monkeypatch.setattr(tokens, "REFETCH_SECONDS", 0.0)
    issuer.down = True
    verifier = _verifier(issuer)
    with pytest.raises(Unavailable) as caught:
        await verifier.verify(issuer.token("one"))
    assert caught.value.retry_after is not None
    issuer.down = False
    await verifier.verify(issuer.token("one"))
    issuer.down = True
    await verifier.verify(issuer.token("one", jti="2"))


async def test_a_nameless_key_is_enough_where_there_is_one(issuer):
    token = issuer.token("one", header={"kid": None})
    assert await _verifier(issuer).verify(token)
    issuer.add_key("two")
    with pytest.raises(Unauthenticated):
        await _verifier(issuer).verify(token)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"keys": []}',
        b'{"keys": [7]}',
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "one"}]}',
        b'{"keys": [{"kty": "RSA", "kid": "one"}]}',
    ],
)
def test_what_is_no_set_of_public_keys_is_refused(data):
    with pytest.raises(ValueError, match=r"(?i)key set"):
        parse_keys(data)


async def test_keys_are_read_from_a_url_and_from_a_file(tmp_path):
    with IssuerServer() as issuer:
        issuer.add_key("one")
        source = UrlKeySource(issuer.url)
        verifier = JwtVerifier(KeySet(source), TokenRules(**RULES))
        assert await verifier.verify(issuer.token("one"))
        await source.close()
        file = tmp_path / "jwks.json"
        file.write_text(json.dumps(issuer.key_set()))
        verifier = JwtVerifier(KeySet(FileKeySource(file)), TokenRules(**RULES))
        assert await verifier.verify(issuer.token("one"))

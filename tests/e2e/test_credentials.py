"""Tokens, clients' certificates, several kinds at once, and TLS files that are replaced."""

import ssl
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
from tests.certificates import Authority, write_pair
from tests.e2e.test_auth import key_of
from tests.harness import RunningServer, clean_environment, eventually
from tests.issuer import AUDIENCE, ISSUER, IssuerServer

from recollect import Recollect, errors
from recollect.v1 import admin_pb2

JWT = ("--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
BILLING = "spiffe://example.org/billing"


@pytest.fixture(scope="module")
def issuer():
    with IssuerServer() as running:
        running.add_key("one")
        yield running


@pytest.fixture(scope="module")
def guarded(issuer):
    """A server that takes keys and tokens."""
    with RunningServer("--auth", "api-key,jwt", "--jwt-jwks", issuer.url, *JWT) as running:
        yield running


@pytest.fixture(scope="module")
def authority():
    return Authority()


def test_keys_and_tokens_are_taken_by_one_server(guarded, issuer):
    key = key_of(guarded, "writer", "writer", "--tenant", "acme")
    with guarded.client("ada", api_key=key) as by_key:
        session = by_key.memory.create_session().session_id
    with guarded.client("ada", api_key=issuer.token("one")) as by_token:
        assert by_token.memory.get_session(session).session_id == session
        info = by_token.admin.get_server_info()
        assert (info.tenant, info.user_id) == ("acme", "ada")
    with (
        guarded.client("ada", api_key=issuer.token("one", tenant="other")) as other,
        pytest.raises(errors.NotFound),
    ):
        other.memory.get_session(session)


def test_a_token_names_its_user_alone_and_does_what_its_role_says(guarded, issuer):
    with guarded.client("bob", api_key=issuer.token("one")) as client:
        with pytest.raises(errors.PermissionDenied) as caught:
            client.memory.create_session()
        assert caught.value.reason == "OTHER_USER"
    with guarded.client("ada", api_key=issuer.token("one", role="reader")) as client:
        client.memory.recall("anything")
        with pytest.raises(errors.PermissionDenied) as caught:
            client.memory.create_session()
        assert caught.value.reason == "ROLE_REQUIRED"
    service = issuer.token("one", sub="batch", role="writer service")
    with guarded.client("bob", api_key=service) as client:
        client.memory.create_session()


def test_a_user_s_token_never_administers(guarded, issuer):
    with guarded.client("ada", api_key=issuer.token("one", role="admin")) as client:
        client.memory.create_session()
        with pytest.raises(errors.PermissionDenied):
            client.admin.create_api_key("mine", admin_pb2.KEY_ROLE_ADMIN)
    operator = issuer.token("one", role="admin service")
    with guarded.client(api_key=operator) as client:
        assert client.admin.create_api_key("made", admin_pb2.KEY_ROLE_READER).token


def test_an_issuer_changes_its_keys_without_a_restart(guarded, issuer):
    issuer.add_key("next")
    token = issuer.token("next")

    def accepted():
        with guarded.client("ada", api_key=token) as client:
            try:
                client.memory.recall("anything")
            except errors.Unauthenticated:
                return False
            return True

    eventually(accepted, 30)


def test_a_watch_ends_when_its_token_expires(guarded, issuer):
    # A clock may differ by 30 s, so one that ends in 2 s says that it ended 28 s ago.
    token = issuer.token("one", iat=time.time() - 60, exp=time.time() - 28)
    with guarded.client("ada", api_key=token) as client:
        with pytest.raises(errors.Unauthenticated) as caught:
            for _ in client.memory.watch():
                pass
        assert caught.value.reason == "CREDENTIAL_INVALID"


def test_an_unreachable_issuer_is_said_to_be_unavailable():
    with (
        RunningServer("--auth", "jwt", "--jwt-jwks", "http://127.0.0.1:1/jwks", *JWT) as server,
        IssuerServer() as issuer,
    ):
        issuer.add_key("one")
        code, message, _ = server.raw(
            "recollect.v1.AdminService/GetServerInfo",
            b"",
            (("authorization", f"Bearer {issuer.token('one')}"),),
        )
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "issuer" in message


def _by_certificate(
    address: str,
    authority: Authority,
    pair: tuple[bytes, bytes] | None,
    api_key: str | None = None,
) -> Recollect:
    return Recollect(
        address,
        api_key=api_key,
        tls=True,
        root_certificates=authority.pem,
        client_certificate=pair,
        timeout=10,
    )


def _tls_flags(folder: Path, authority: Authority) -> tuple[str, ...]:
    certificate, key = write_pair(folder, authority.issue("server", "localhost", "127.0.0.1"))
    return ("--tls-cert", str(certificate), "--tls-key", str(key))


@pytest.fixture(scope="module")
def mutual(tmp_path_factory, authority):
    """A server that knows two clients by their certificates, and takes keys too."""
    folder = tmp_path_factory.mktemp("mtls")
    (folder / "ca.crt").write_bytes(authority.pem)
    config = folder / "recollect.toml"
    config.write_text(
        f'[certificates."{BILLING}"]\ntenant = "acme"\nrole = "reader memory=writer"\n'
        '[certificates.ada]\ntenant = "acme"\nuser_id = "ada"\nrole = "writer"\n'
    )
    flags = ("--auth", "api-key,mtls", "--tls-client-ca", str(folder / "ca.crt"))
    with RunningServer(*flags, *_tls_flags(folder, authority), "--config", str(config)) as running:
        yield running


def test_a_client_is_known_by_a_name_in_its_certificate(mutual, authority):
    with _by_certificate(
        mutual.address, authority, authority.issue("x", "billing.example", BILLING)
    ) as client:
        info = client.admin.get_server_info()
        assert (info.tenant, info.user_id, info.role) == ("acme", "", admin_pb2.KEY_ROLE_READER)
        assert dict(info.service_roles) == {"memory": admin_pb2.KEY_ROLE_WRITER}
        session = client.memory.create_session(user_id="ada").session_id
        with pytest.raises(errors.PermissionDenied):
            client.chat.send(session, "x", user_id="ada")
    with _by_certificate(mutual.address, authority, authority.issue("ada")) as client:
        assert client.memory.get_session(session, user_id="ada").session_id == session
        with pytest.raises(errors.PermissionDenied) as caught:
            client.memory.get_session(session, user_id="bob")
        assert caught.value.reason == "OTHER_USER"


@pytest.mark.parametrize("names", [("stranger",), ("ada", "other.example")])
def test_a_certificate_without_a_known_name_is_refused(mutual, authority, names):
    with _by_certificate(mutual.address, authority, authority.issue(*names)) as client:
        with pytest.raises(errors.Unauthenticated) as caught:
            client.admin.get_server_info()
        assert caught.value.reason == "CREDENTIAL_INVALID"


def test_a_key_says_more_than_a_certificate(mutual, authority):
    key = key_of(mutual, "k", "reader", "--tenant", "beta")
    with _by_certificate(mutual.address, authority, authority.issue("ada"), api_key=key) as client:
        assert client.admin.get_server_info().tenant == "beta"
    with (
        _by_certificate(
            mutual.address, authority, authority.issue("ada"), api_key="rk_wrong"
        ) as client,
        pytest.raises(errors.Unauthenticated),
    ):
        client.admin.get_server_info()


@pytest.mark.parametrize("of", ["nobody", "another authority"])
def test_a_connection_without_a_certificate_of_the_authorities_is_not_made(mutual, authority, of):
    pair = Authority("Another").issue("ada") if of == "another authority" else None
    with (
        _by_certificate(mutual.address, authority, pair) as client,
        pytest.raises(errors.Unavailable),
    ):
        client.admin.get_server_info(timeout=3)


def _served_certificate(address: str) -> str:
    host, _, port = address.rpartition(":")
    return ssl.get_server_certificate((host, int(port)), timeout=10)


def test_tls_files_are_replaced_under_a_running_server(tmp_path, authority):
    flags = ("--auth", "api-key", *_tls_flags(tmp_path, authority))
    with RunningServer(*flags) as server:
        key = key_of(server, "k", "writer")
        more = {"api_key": key, "tls": True, "root_certificates": authority.pem}
        with server.client("ada", **more) as before:
            before.memory.create_session()
            first = _served_certificate(server.address)

            # Half of a replacement changes nothing.
            other = Authority("New authority")
            pair = other.issue("server", "localhost", "127.0.0.1")
            (tmp_path / "tls.crt").write_bytes(pair[0])
            assert _served_certificate(server.address) == first
            (tmp_path / "tls.crt").write_bytes(b"not PEM")
            assert _served_certificate(server.address) == first
            assert "the old ones stay in use" in server.log

            write_pair(tmp_path, pair)
            assert _served_certificate(server.address).encode().split() == pair[0].split()
            # A connection that was there goes on.
            before.memory.create_session()
        with server.client("ada", **(more | {"root_certificates": other.pem})) as after:
            after.memory.create_session()
        with server.client("ada", **more) as stale, pytest.raises(errors.Unavailable):
            stale.memory.create_session(timeout=3)


@pytest.mark.parametrize("wrong", ["another's key", "no PEM"])
def test_a_server_does_not_start_with_files_that_do_not_fit(tmp_path, authority, wrong):
    certificate, key = write_pair(tmp_path, authority.issue("server", "localhost"))
    key.write_bytes(authority.issue("other")[1] if wrong == "another's key" else b"key")
    flags = ["--listen", "127.0.0.1:0", "--data-dir", str(tmp_path / "data")]
    done = subprocess.run(
        [sys.executable, "-m", "recollect_server", "serve", *flags, "--tls-cert", str(certificate),
         "--tls-key", str(key)],
        capture_output=True, text=True, env=clean_environment(), timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert str(key) in done.stderr
    assert "Traceback" not in done.stderr

"""API keys, roles and tenants."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.harness import RunningServer, clean_environment

from recollect import Recollect, errors
from recollect.v1 import admin_pb2


def _recollect(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recollect_server", *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=60,
        check=False,
    )


def _key(server: RunningServer, name: str, role: str, *more: str) -> str:
    done = _recollect(
        "keys", "create", "--data-dir", str(server.data_dir), "--name", name, "--role", role, *more
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def guarded():
    """A server that asks for keys."""
    with RunningServer("--auth", "api-key") as running:
        yield running


@pytest.fixture(scope="module")
def admin(guarded):
    with guarded.client(api_key=_key(guarded, "boot", "admin")) as client:
        yield client


def _client(guarded, admin, role, user_id="", **more) -> Recollect:
    token = admin.admin.create_api_key("k", role, user_id=user_id, **more).token
    return guarded.client(user_id or "ada", api_key=token)


def test_a_key_is_needed_and_health_and_reflection_are_not_guarded(guarded):
    with guarded.client("ada") as client, pytest.raises(errors.Unauthenticated) as caught:
        client.memory.create_session()
    assert caught.value.reason == "CREDENTIAL_MISSING"
    with grpc.insecure_channel(guarded.address) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    "token",
    ["wrong", "rk_0123456789abcdef_" + "x" * 43, "rk_0123456789abcdef_short"],
)
def test_a_wrong_key_is_refused(guarded, token):
    with (
        guarded.client("ada", api_key=token) as client,
        pytest.raises(errors.Unauthenticated) as caught,
    ):
        client.memory.create_session()
    assert caught.value.reason == "CREDENTIAL_INVALID"


def test_a_key_with_another_secret_is_refused(guarded, admin):
    created = admin.admin.create_api_key("k", admin_pb2.KEY_ROLE_WRITER)
    forged = created.token[:-1] + ("A" if created.token[-1] != "A" else "B")
    with guarded.client("ada", api_key=forged) as client, pytest.raises(errors.Unauthenticated):
        client.memory.create_session()


def test_roles_allow_what_they_say(guarded, admin):
    with _client(guarded, admin, admin_pb2.KEY_ROLE_WRITER) as writer:
        session = writer.memory.create_session().session_id
        with pytest.raises(errors.PermissionDenied) as caught:
            writer.admin.create_api_key("k", admin_pb2.KEY_ROLE_READER)
        assert caught.value.reason == "ROLE_REQUIRED"
    with _client(guarded, admin, admin_pb2.KEY_ROLE_READER) as reader:
        assert reader.memory.get_session(session)
        for refused in (
            lambda: reader.memory.append_messages(session, ["x"]),
            lambda: reader.chat.send(session, "x"),
            lambda: list(reader.chat.stream(session, "x")),
        ):
            with pytest.raises(errors.PermissionDenied):
                refused()
        assert not list(reader.memory.list_messages(session))


def test_a_user_s_key_names_that_user_only(guarded, admin):
    with _client(guarded, admin, admin_pb2.KEY_ROLE_WRITER, "ada") as ada:
        ada.memory.create_session(session_id="mine")
        with pytest.raises(errors.PermissionDenied) as caught:
            ada.memory.create_session(user_id="bob")
        assert caught.value.reason == "OTHER_USER"
    with pytest.raises(errors.InvalidArgument):
        admin.admin.create_api_key("k", admin_pb2.KEY_ROLE_ADMIN, user_id="ada")


def test_a_revoked_and_an_expired_key_are_refused(guarded, admin):
    created = admin.admin.create_api_key("k", admin_pb2.KEY_ROLE_WRITER)
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    with guarded.client("ada", api_key=created.token) as client:
        client.memory.create_session()
        revoked = admin.admin.revoke_api_key(created.api_key.key_id)
        assert revoked.HasField("revoke_time")
        assert admin.admin.revoke_api_key(created.api_key.key_id) == revoked
        with pytest.raises(errors.Unauthenticated):
            client.memory.create_session()
    with _client(guarded, admin, admin_pb2.KEY_ROLE_WRITER, expire_time=soon) as client:
        while datetime.now(UTC) < soon:
            pass
        with pytest.raises(errors.Unauthenticated):
            client.memory.create_session()


def test_tenants_do_not_see_each_other(guarded, admin):
    other = _key(guarded, "other", "admin", "--tenant", "other")
    with _client(guarded, admin, admin_pb2.KEY_ROLE_WRITER) as ours:
        session = ours.memory.create_session().session_id
        ours.memory.remember(["a secret pineapple"])
    with guarded.client("ada", api_key=other) as theirs:
        with pytest.raises(errors.NotFound):
            theirs.memory.get_session(session)
        assert not theirs.memory.recall("pineapple").hits
        assert [k.name for k in theirs.admin.list_api_keys()] == ["other"]
        assert theirs.admin.get_server_info().tenant == "other"


def test_keys_are_listed_and_revoked_on_the_command_line(guarded):
    token = _key(guarded, "cli", "reader")
    key_id = token.split("_")[1]
    folder = str(guarded.data_dir)
    assert _recollect("keys", "revoke", key_id, "--data-dir", folder).returncode == 0
    listed = _recollect("keys", "list", "--data-dir", folder).stdout
    assert any(key_id in line and "revoked" in line for line in listed.splitlines())
    assert token not in listed


def test_an_address_that_others_reach_needs_tls_and_keys(tmp_path):
    refused = _recollect("serve", "--listen", "0.0.0.0:0", "--data-dir", str(tmp_path))
    assert refused.returncode == 2
    assert "needs TLS" in refused.stderr
    assert "Traceback" not in refused.stderr

"""API keys, roles and tenants."""

import json
import queue
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.harness import RunningServer, clean_environment, eventually

from recollect import Recollect, errors
from recollect.v1 import admin_pb2
from recollect_server.rpc.call_log import MOST_LINES


def _recollect(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recollect_server", *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=60,
        check=False,
    )


def key_of(server: RunningServer, name: str, role: str, *more: str) -> str:
    """Make a key on the server's machine and return its token."""
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
    with guarded.client(api_key=key_of(guarded, "boot", "admin")) as client:
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


def test_a_flood_of_refused_calls_is_no_flood_of_lines():
    calls = 10 * MOST_LINES
    with RunningServer("--auth", "api-key", "--log-format", "json") as server:
        with server.client("ada") as client:
            for _ in range(calls):
                with pytest.raises(errors.Unauthenticated):
                    client.memory.get_session("s")

        def lines() -> list[dict]:
            found = [json.loads(line) for line in server.log.splitlines() if line[:1] == "{"]
            return [line for line in found if line.get("code") == "UNAUTHENTICATED"]

        # A line holds one call, or says how many more there were.
        eventually(lambda: sum(line.get("count", 1) for line in lines()) == calls, 30)
        periods = [line for line in lines() if line["event"] == "more calls"]
        assert periods
        assert len(lines()) <= (len(periods) + 1) * (MOST_LINES + 1)
        assert all("call_id" not in line for line in periods)


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


class _Watch:
    """A watch in a thread: what it saw, and what ended it."""

    def __init__(self, client: Recollect) -> None:
        self.seen = 0
        self.ended: queue.Queue[BaseException | None] = queue.Queue()
        self._client = client
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            for _ in self._client.memory.watch():
                self.seen += 1
            self.ended.put(None)
        except errors.RecollectError as error:
            self.ended.put(error)


@pytest.mark.parametrize("where", ["here", "in another process"])
def test_an_open_watch_ends_within_seconds_when_its_key_is_revoked(guarded, admin, where):
    created = admin.admin.create_api_key("k", admin_pb2.KEY_ROLE_READER)
    with (
        guarded.client("ada", api_key=created.token) as client,
        _client(guarded, admin, admin_pb2.KEY_ROLE_READER) as another,
    ):
        watch, goes_on = _Watch(client), _Watch(another)

        def both_open():
            admin.memory.create_session(user_id="ada")
            return watch.seen and goes_on.seen

        eventually(both_open)
        if where == "here":
            admin.admin.revoke_api_key(created.api_key.key_id)
        else:
            folder = str(guarded.data_dir)
            done = _recollect("keys", "revoke", created.api_key.key_id, "--data-dir", folder)
            assert done.returncode == 0, done.stderr
        error = watch.ended.get(timeout=30)
        assert isinstance(error, errors.Unauthenticated)
        assert error.reason == "CREDENTIAL_INVALID"
        assert goes_on.ended.empty()


def test_a_key_may_have_a_role_on_one_service_alone(guarded, admin):
    created = admin.admin.create_api_key(
        "k", service_roles={"cache": admin_pb2.KEY_ROLE_WRITER, "memory": admin_pb2.KEY_ROLE_READER}
    )
    with guarded.client("ada", api_key=created.token) as client:
        client.memory.recall("anything")
        client.cache.get_stats()
        info = client.admin.get_server_info()
        assert info.role == admin_pb2.KEY_ROLE_UNSPECIFIED
        assert dict(info.service_roles) == dict(created.api_key.service_roles)
        for refused in (
            lambda: client.memory.create_session(),
            lambda: client.chat.send("s", "x"),
            lambda: client.admin.list_jobs().__next__(),
        ):
            with pytest.raises(errors.PermissionDenied) as caught:
                refused()
            assert caught.value.reason == "ROLE_REQUIRED"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": "k"}, "role"),
        ({"name": "k", "service_roles": {"cache": 0}}, "role"),
        ({"name": "k", "service_roles": {"files": 1}}, "service_roles"),
        ({"name": "k", "service_roles": {"admin": 3}, "user_id": "ada"}, "user_id"),
        ({"role": 1}, "name"),
        ({"name": "k", "role": 1, "overlap": -1}, "overlap"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(admin, given, field):
    before = len(list(admin.admin.list_api_keys()))
    with pytest.raises(errors.InvalidArgument) as caught:
        admin.admin.create_api_key(**given)
    assert field in str(caught.value)
    assert len(list(admin.admin.list_api_keys())) == before


def test_a_key_is_replaced_and_the_old_one_works_for_the_overlap(guarded, admin):
    old = admin.admin.create_api_key("k", admin_pb2.KEY_ROLE_WRITER, user_id="ada")
    with pytest.raises(errors.InvalidArgument):
        admin.admin.create_api_key("other", replaces=old.api_key.key_id)
    new = admin.admin.create_api_key(replaces=old.api_key.key_id, overlap=1)
    assert (new.api_key.name, new.api_key.user_id) == ("k", "ada")
    with guarded.client("ada", api_key=new.token) as client:
        client.memory.create_session()

    def refused():
        with guarded.client("ada", api_key=old.token) as client:
            try:
                client.memory.create_session()
            except errors.Unauthenticated:
                return True
            return False

    eventually(refused)


def test_tenants_do_not_see_each_other(guarded, admin):
    other = key_of(guarded, "other", "admin", "--tenant", "other")
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
    token = key_of(guarded, "cli", "reader")
    key_id = token.split("_")[1]
    folder = str(guarded.data_dir)
    assert _recollect("keys", "revoke", key_id, "--data-dir", folder).returncode == 0
    listed = _recollect("keys", "list", "--data-dir", folder).stdout
    assert any(key_id in line and "revoked" in line for line in listed.splitlines())
    assert token not in listed


def test_keys_are_replaced_on_the_command_line_and_show_their_last_use(guarded):
    token = key_of(guarded, "rotating", "reader", "--role", "cache=writer")
    key_id, folder = token.split("_")[1], str(guarded.data_dir)
    done = _recollect("keys", "rotate", key_id, "--overlap-hours", "1", "--data-dir", folder)
    assert done.returncode == 0, done.stderr
    for either in (token, done.stdout.strip()):
        with guarded.client("ada", api_key=either) as client:
            client.memory.recall("anything")
    listed = _recollect("keys", "list", "--data-dir", folder).stdout
    assert (
        sum("rotating" in line and "reader cache=writer" in line for line in listed.splitlines())
        == 2
    )
    missing = _recollect("keys", "rotate", "0123456789abcdef", "--data-dir", folder)
    assert missing.returncode == 1
    assert "does not exist" in missing.stderr
    wrong = _recollect("keys", "create", "--name", "k", "--role", "root", "--data-dir", folder)
    assert wrong.returncode == 2
    assert "neither reader, writer, admin" in wrong.stderr


def test_the_last_use_of_a_key_outlives_the_server():
    with RunningServer("--auth", "api-key") as server:
        token = key_of(server, "k", "admin")
        with server.client(api_key=token) as client:
            client.admin.get_server_info()
        assert server.stop() == 0
        server.start()
        with server.client(api_key=token) as client:
            (key,) = client.admin.list_api_keys()
        assert key.HasField("last_use_time")


def test_an_address_that_others_reach_needs_tls_and_keys(tmp_path):
    refused = _recollect("serve", "--listen", "0.0.0.0:0", "--data-dir", str(tmp_path))
    assert refused.returncode == 2
    assert "needs TLS" in refused.stderr
    assert "Traceback" not in refused.stderr

"""Limits on real servers: what a client sees, servers that share them, an outage."""

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.e2e.deployments import pair_on
from tests.e2e.test_auth import key_of
from tests.harness import RunningServer, details, eventually, unique
from tests.mocks.llm import MockLlm, free_port
from tests.observability.collector import Scrape
from tests.stores.valkey.valkey_server import Server as Valkey

from recollect import Recollect, errors
from recollect.v1 import memory_pb2
from recollect_server.admin.allowances import LEASE_SHARE

CREATE = "recollect.v1.MemoryService/CreateSession"
TEST_SECONDS = 2.0


def _until_refused(client: Recollect, user: str) -> tuple[int, errors.ResourceExhausted]:
    """Make sessions of a user until that is refused; return how many, and the refusal."""
    for count in range(1000):
        try:
            client.memory.create_session(user_id=user)
        except errors.ResourceExhausted as refusal:
            return count, refusal
    raise AssertionError("no call was refused")


def limits_file(folder: Path, text: str) -> tuple[str, str]:
    """Return flags that name a file of limits."""
    path = folder / "limits.toml"
    path.write_text(text)
    return "--limits-file", str(path)


@pytest.fixture(scope="module")
def metrics() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, metrics: str) -> Iterator[RunningServer]:
    """A server with low limits for each user, and for the users of one tenant others."""
    folder = tmp_path_factory.mktemp("quotas")
    file = limits_file(
        folder,
        'user_limits = "requests=30/min,messages=10/h,stored_messages=12,stored_facts=3"\n'
        '[tenants.calm]\nuser_limits = "requests=1/h"\ntenant_limits = "requests=2/h"\n',
    )
    flags = (*file, "--auth", "api-key", "--metrics-listen", metrics)
    with RunningServer(*flags) as running:
        yield running


@pytest.fixture(scope="module")
def token(server: RunningServer) -> str:
    return key_of(server, "k", "admin")


def test_a_refusal_names_the_limit_and_a_call_after_its_delay_is_let_in(server, token, metrics):
    refused = {"limit": "requests", "of": "user"}
    before = Scrape(metrics).value("recollect_limited_calls_total", **refused)
    user, metadata = unique("ada"), (("authorization", f"Bearer {token}"),)
    request = memory_pb2.CreateSessionRequest(user_id=user).SerializeToString()
    for _ in range(100):
        code, message, trailing = server.raw(CREATE, request, metadata)
        if code is not grpc.StatusCode.OK:
            break
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert message == "the user's limit of 30 requests in 60 seconds is used up"
    info = details(trailing, error_details_pb2.ErrorInfo)
    assert info.reason == "QUOTA_EXCEEDED"
    assert info.metadata == {"limit": "requests", "of": "user", "maximum": "30", "seconds": "60"}
    (violation,) = details(trailing, error_details_pb2.QuotaFailure).violations
    assert violation.subject == f"user:{user}"
    delay = details(trailing, error_details_pb2.RetryInfo).retry_delay.ToTimedelta()
    assert 0 < delay.total_seconds() <= 2
    # What the server said is what is tested: waiting so long must be enough.
    time.sleep(delay.total_seconds())
    assert server.raw(CREATE, request, metadata)[0] is grpc.StatusCode.OK
    assert Scrape(metrics).value("recollect_limited_calls_total", **refused) > before


def test_the_client_repeats_nothing_that_is_refused(server, token):
    user = unique("ada")
    with server.client(user, api_key=token) as client:
        _, refusal = _until_refused(client, user)
        assert refusal.reason == "QUOTA_EXCEEDED"
        assert refusal.retry_after
        assert refusal.retry_after > 0
        began = time.monotonic()
        tries = 20
        for _ in range(tries):
            with pytest.raises(errors.ResourceExhausted):
                client.memory.append_messages("s", ["x"] * 1000)
        # It says so at once, but to one who does not listen.
        assert time.monotonic() - began < tries


def test_other_users_and_tenants_have_their_own_and_usage_is_told_when_it_is_used_up(server, token):
    calm = key_of(server, "calm", "writer", "--tenant", "calm")
    with server.client(unique("ada"), api_key=calm) as client:
        client.memory.create_session()
        with pytest.raises(errors.ResourceExhausted, match="user's limit of 1 requests in 3600"):
            client.memory.create_session()
        client.memory.create_session(user_id=unique("bob"))
        with pytest.raises(errors.ResourceExhausted, match="tenant's limit of 2 requests in 3600"):
            client.memory.create_session(user_id=unique("eve"))
        whole = {usage.limit: usage for usage in client.admin.get_usage()}
        assert (whole["requests"].used, whole["requests"].maximum) == (2, 2)
        assert whole["requests"].period.ToTimedelta().total_seconds() == 3600
        assert 3500 < whole["requests"].full_in.ToTimedelta().total_seconds() <= 3600
    with server.client(unique("ada"), api_key=token) as client:
        assert client.memory.create_session()


def test_messages_are_counted_and_a_refused_append_writes_nothing(server, token):
    user = unique("ada")
    with server.client(user, api_key=token) as client:
        session = client.memory.create_session().session_id
        client.memory.append_messages(session, ["a", "b", "c", "d"])
        client.memory.append_messages(session, ["e", "f", "g", "h"])
        with pytest.raises(errors.ResourceExhausted) as caught:
            client.memory.append_messages(session, ["i", "j", "k", "l"])
        assert caught.value.metadata["limit"] == "messages"
        assert [m.parts[0].text for m in client.memory.list_messages(session)] == list("abcdefgh")
        client.memory.append_messages(session, ["i", "j"])
        used = {usage.limit: usage.used for usage in client.admin.get_usage(user)}
        assert used["messages"] == 10
        assert used["stored_messages"] == 10


def test_what_is_stored_is_bounded_and_what_is_deleted_makes_room(server, token):
    with server.client(unique("ada"), api_key=token) as client:
        kept = client.memory.remember(["Likes tea.", "Lives in Lisbon."])
        with pytest.raises(errors.ResourceExhausted, match="limit of 3 stored facts") as caught:
            client.memory.remember(["Plays chess.", "Owns a boat."])
        assert caught.value.retry_after is None
        client.memory.remember(["Plays chess."])
        client.memory.forget_fact(kept.facts[0].fact_id)

        def room() -> bool:
            # Requests are limited, too.
            time.sleep(TEST_SECONDS)
            try:
                return bool(client.memory.remember(["Owns a boat."]))
            except errors.ResourceExhausted:
                return False

        eventually(room, 60)


def test_a_turns_tokens_are_counted_when_it_ends(tmp_path):
    counted = {"input_tokens": 30, "output_tokens": 25}
    answer = [{"match": {}, "response": {"content": "Hello to you.", "usage": counted}}]
    with (
        MockLlm(tmp_path, answer) as mock,
        RunningServer(
            *("--anthropic-base-url", mock.url),
            *limits_file(tmp_path, 'user_limits = "tokens=40/day"'),
            environment={"ANTHROPIC_API_KEY": "test"},
        ) as server,
        server.client("ada") as client,
    ):
        session = client.memory.create_session().session_id
        usage = client.chat.send(session, "Hello").usage
        spent = usage.input_tokens + usage.output_tokens
        assert spent == 55
        (tokens, *_) = client.admin.get_usage("ada")
        assert (tokens.limit, tokens.used, tokens.maximum) == ("tokens", spent, 40)
        with pytest.raises(errors.ResourceExhausted, match="limit of 40 tokens") as caught:
            client.chat.send(session, "Hello again")
        assert caught.value.retry_after == pytest.approx((spent - 39) * 86_400 / 40, rel=0.01)
        assert len(list(client.memory.list_messages(session))) == 2
        # Another user's turns go on.
        client.memory.create_session(session_id="s", user_id="bob")
        client.chat.send("s", "Hello", user_id="bob")


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_two_servers_share_a_limit_and_let_in_no_more_than_is_documented(kind, tmp_path, postgres):
    most, period = 120, 60.0
    flags = limits_file(tmp_path, f'tenant_limits = "requests={most}/min"')
    with pair_on(kind, tmp_path, postgres, *flags) as pair:
        let_in, delays = [], []
        ended = threading.Event()

        def call(server: RunningServer, user: str) -> None:
            with server.client(user) as client:
                while not ended.is_set():
                    try:
                        client.memory.create_session()
                    except errors.ResourceExhausted as refused:
                        delays.append(refused.retry_after)
                    else:
                        let_in.append(1)

        began = time.monotonic()
        threads = [
            threading.Thread(target=call, args=(server, f"user {n}"))
            for server in (pair.one, pair.other)
            for n in range(3)
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: len(let_in) >= 0.9 * most, 60)
        time.sleep(TEST_SECONDS)
        ended.set()
        for thread in threads:
            thread.join()
        seconds = time.monotonic() - began
        assert all(delays)
        ahead = 2 * most / LEASE_SHARE
        assert len(let_in) <= most + most * seconds / period + ahead
        for server in (pair.one, pair.other):
            with server.client("ada") as client:
                used = client.admin.get_usage()[0].used
                assert 0.8 * most <= used <= most


def _limit_of(server: RunningServer) -> int:
    """Return how many requests a user may make, as a server tells."""
    with server.client("ada") as client:
        return next(u.maximum for u in client.admin.get_usage("ada") if u.limit == "requests")


def test_two_servers_take_other_limits_while_they_serve_and_wrong_ones_never(tmp_path, postgres):
    flags = limits_file(tmp_path, 'user_limits = "requests=3/day"')
    path, new = tmp_path / "limits.toml", tmp_path / "new"
    with pair_on("sqlite", tmp_path, postgres, *flags) as pair:
        servers = pair.one, pair.other
        with pair.one.client() as one, pair.other.client() as other:
            assert _until_refused(one, "ada")[0] == 3
            with pytest.raises(errors.ResourceExhausted):
                other.memory.create_session(user_id="ada")

            new.write_text('user_limits = "requests=10/day"\n')
            new.replace(path)
            eventually(lambda: [_limit_of(server) for server in servers] == [10, 10])
            # What was used stays used, whichever server is asked.
            assert _until_refused(other, "ada")[0] + _until_refused(one, "ada")[0] == 7

            path.write_text('user_limits = "requests=many"\n')
            told = "the limits file is wrong: the old limits stay"
            eventually(lambda: all(told in server.log for server in servers))
            assert [_limit_of(server) for server in servers] == [10, 10]

            path.write_text("[tenants.default]\nuser_limits = 'requests=12/day'\n")
            eventually(lambda: [_limit_of(server) for server in servers] == [12, 12])
            assert _until_refused(one, "ada")[0] == 2


@pytest.mark.parametrize("text", ["user_limits = 'requests=many'", None])
def test_a_server_does_not_start_with_wrong_limits(text, tmp_path):
    path = tmp_path / "limits.toml"
    if text is not None:
        path.write_text(text)
    # Where it is set by the environment, as where it is mounted, no flag is checked before.
    environment = {"RECOLLECT_LIMITS_FILE": str(path)}
    with pytest.raises(pytest.fail.Exception, match=r"limits\.toml"):
        RunningServer(environment=environment).start()


def test_without_valkey_limits_are_counted_by_each_process_and_calls_go_on(tmp_path):
    port = f"127.0.0.1:{free_port()}"
    valkey = Valkey()
    valkey.start()
    try:
        with (
            RunningServer(
                *limits_file(tmp_path, 'user_limits = "requests=8/h"'),
                *("--metrics-listen", port),
                environment={"VALKEY_URL": valkey.url("valkey")},
            ) as server,
            server.client() as client,
        ):
            name = "recollect_limits_counted_alone"
            client.memory.create_session(user_id="ada")
            assert Scrape(port).value(name) == 0
            # It is there, and does not answer: the worst kind of outage.
            valkey.send(signal.SIGSTOP)
            let_in, _ = _until_refused(client, "bob")
            assert let_in == 8
            assert Scrape(port).value(name) == 1
            assert server.log.count("counted by this process alone") == 1
            valkey.send(signal.SIGCONT)

            def shared_again() -> bool:
                client.memory.create_session(user_id=unique("eve"))
                return Scrape(port).value(name) == 0

            eventually(shared_again, 30)
    finally:
        valkey.close()

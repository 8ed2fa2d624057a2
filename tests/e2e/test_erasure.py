"""EraseUser: nothing of a user is left in any store, nor comes back, and the receipt says so."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
from tests.e2e.deployments import Pair, pair_on, token_of_now
from tests.e2e.planted import Planted, erased, in_files, in_postgres, in_valkey
from tests.harness import RunningServer, clean_environment, eventually, unique
from tests.stores.valkey.valkey_server import Server as Valkey

from recollect import Recollect, errors
from recollect.v1 import admin_pb2, memory_pb2
from recollect_server.scope import Scope
from recollect_server.stores.valkey.keys import register_tag, user_mark

KINDS = ("sqlite", "sqlite+chroma", "sqlite+qdrant", "postgres", "postgres+pgvector")


@dataclass
class Deployment:
    """A server with its stores.

    Attributes:
        postgres: the URL of its database, "" for SQLite.
    """

    server: RunningServer
    valkey: Valkey
    postgres: str

    def traces(self, who: Planted) -> list[str]:
        """Search everything that there is for a user."""
        found = in_files(self.server.data_dir, who.mark)
        if self.postgres:
            found += in_postgres(self.postgres, who.mark)
        scope = Scope("default", who.user)
        marks = (who.mark.encode(), user_mark(scope), user_mark(scope).hex().encode())
        tag = register_tag(scope.tenant, scope.user_id, 0).encode()
        return found + [key.decode() for key in in_valkey(self.valkey.url("valkey"), *marks, tag)]


@pytest.fixture(params=KINDS)
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """Servers on every store; vector stores of a folder lie beside the database."""
    database, _, vectors = request.param.partition("+")
    environment = {"RECOLLECT_ALLOW_GLOBAL_CACHE": "true", "RECOLLECT_EPISODE_IDLE_SECONDS": "1"}
    if vectors == "chroma":
        environment["CHROMADB_URL"] = str(tmp_path / "vectors")
    elif vectors == "qdrant":
        environment["QDRANT_URL"] = str(tmp_path / "vectors")
    elif vectors == "pgvector":
        environment["RECOLLECT_VECTOR_STORE"] = "pgvector"
    url = ""
    if database == "postgres":
        url = environment["DATABASE_URL"] = request.getfixturevalue("postgres").create("recollect")
    with ExitStack() as stack:
        valkey = Valkey()
        stack.callback(valkey.close)
        valkey.start()
        environment["VALKEY_URL"] = valkey.url("valkey")
        server = stack.enter_context(RunningServer(environment=environment))
        if vectors:
            eventually(lambda: server.index().kind == vectors, 60)
        yield Deployment(server, valkey, url)


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    """One that stores answers for everybody, too."""
    with RunningServer(environment={"RECOLLECT_ALLOW_GLOBAL_CACHE": "true"}) as running:
        yield running


def test_no_trace_is_left_of_one_user_and_all_is_left_of_the_other(deployment: Deployment):
    server = deployment.server
    ada, bob = Planted("ada"), Planted("bob")
    ada.plant(server)
    kept = bob.plant(server)
    assert deployment.traces(ada), "nothing was planted"
    receipt = erased(server, ada.user)
    assert deployment.traces(ada) == []
    removed = {store.store: store.removed for store in receipt.stores}
    assert all(store.remaining == 0 and not store.problem for store in receipt.stores)
    assert removed["sql"] > 30
    assert removed["state"] >= 3  # a window, and an ephemeral session's two keys
    assert removed["cache"] == 3 + 1  # the answer of chat
    assert removed["index"] > 0
    others = [name for name in removed if name.startswith("index:")]
    if server.index().kind != "exact":
        assert others, receipt
        assert all(removed[name] > 0 for name in others), receipt
    with server.client(bob.user) as client:
        assert len(list(client.memory.list_messages(kept["session"]))) == 18
        assert client.memory.recall(bob.text("fact 2")).hits
        assert client.cache.lookup(bob.prompt("question")).HasField("entry")


def test_a_new_user_of_the_same_id_has_nothing_of_the_old_and_later_revisions(server):
    ada = Planted("ada")
    ada.plant(server)
    with server.client(ada.user) as client:
        before = client.memory.remember(["one more"]).user_revision
    erased(server, ada.user)
    with server.client(ada.user) as client:
        assert list(client.memory.list_sessions()) == []
        assert list(client.memory.list_facts()) == []
        assert client.memory.recall(ada.mark).hits == []
        with pytest.raises(errors.NotFound):
            client.memory.append_messages(f"s-{ada.mark}", ["x"])
        after = client.memory.remember(["Likes tea"]).user_revision
        assert after > before
        assert [fact.text for fact in client.memory.list_facts()] == ["Likes tea"]
        found = client.memory.recall("tea", min_revision=after, timeout=30).hits
        assert [hit.fact.text for hit in found] == ["Likes tea"]


def test_a_repeated_request_gets_the_same_receipt_and_another_erases_anew(server):
    ada = Planted("ada")
    request_id = "0191f7a2-3b1c-7d4e-8f00-0123456789ab"
    with server.client(timeout=60) as client:
        client.memory.remember([ada.text("fact")], user_id=ada.user)
        first = client.admin.erase_user(ada.user, request_id=request_id)
        client.memory.remember([ada.text("fact")], user_id=ada.user)
        again = client.admin.erase_user(ada.user, request_id=request_id)
        assert again == first
        assert len(list(client.memory.list_facts(user_id=ada.user))) == 1
        second = client.admin.erase_user(ada.user)
        assert second.complete
        assert second.erasure_id != first.erasure_id
        assert list(client.memory.list_facts(user_id=ada.user)) == []


def test_one_who_was_never_there_is_erased_too(server):
    with server.client(timeout=60) as client:
        receipt = client.admin.erase_user(unique("nobody"))
    assert receipt.complete
    assert {store.removed for store in receipt.stores} == {0}


def test_the_audit_keeps_the_fact_without_the_user(server):
    ada = Planted("ada")
    planted = ada.plant(server)
    with server.client(timeout=60) as client:
        before = list(client.admin.list_audit_events(user_id=ada.user))
        assert any(planted["session"] in event.resource for event in before)
        receipt = client.admin.erase_user(ada.user)
        events = list(client.admin.list_audit_events(user_id=ada.user))
    assert len(events) == len(before) + 1
    assert events[0].event_id == receipt.audit_event_id
    assert events[0].method == "recollect.v1.AdminService/EraseUser"
    assert receipt.erasure_id in events[0].resource
    assert ada.mark not in str(events)


def test_a_watch_learns_that_the_user_is_gone(server):
    ada = Planted("ada")
    with server.client(ada.user, timeout=60) as client:
        client.memory.remember(["one"])
        token = token_of_now(server, ada.user)
        client.admin.erase_user(ada.user)
        for _ in range(2):
            with pytest.raises(errors.OutOfRange, match="erased"):
                next(iter(client.memory.watch(resume_token=token)))
            client.memory.remember(["of another life"])


def test_a_key_for_the_user_alone_is_removed():
    with RunningServer("--auth", "api-key") as guarded:
        ada = Planted("ada")
        admin = _key(guarded, "admin")
        with guarded.client(api_key=admin, timeout=60) as client:
            mine = client.admin.create_api_key(
                "mine", admin_pb2.KEY_ROLE_WRITER, user_id=ada.user
            ).token
            with guarded.client(ada.user, api_key=mine) as own:
                own.memory.remember(["one"])
            assert client.admin.erase_user(ada.user).complete
            assert ada.user not in [key.user_id for key in client.admin.list_api_keys()]


def _key(server: RunningServer, role: str) -> str:
    command = [sys.executable, "-m", "recollect_server", "keys", "create", "--name", "boot"]
    command += ["--data-dir", str(server.data_dir), "--role", role]
    done = subprocess.run(
        command, capture_output=True, text=True, env=clean_environment(), timeout=60, check=True
    )
    return done.stdout.strip()


def test_calls_are_refused_until_it_is_complete(server):
    ada = Planted("ada")
    with server.client(ada.user, timeout=60) as client:
        client.memory.remember(["one"])
        assert not client.admin.erase_user(ada.user, timeout=2).complete
        with pytest.raises(errors.Aborted) as refused:
            client.memory.recall("one")
        assert refused.value.reason == "USER_BEING_ERASED"
        erased(server, ada.user)
        assert client.memory.remember(["two"]).facts[0].text == "two"


@pytest.fixture(params=["sqlite", "postgres"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Pair]:
    postgres = request.getfixturevalue("postgres")
    more = {"RECOLLECT_ALLOW_GLOBAL_CACHE": "true", "RECOLLECT_EPISODE_IDLE_SECONDS": "1"}
    with pair_on(request.param, tmp_path, postgres, **more) as servers:
        yield servers


def _everywhere(pair: Pair, folder: Path, who: Planted) -> list[str]:
    """Search the stores of a pair."""
    scope = Scope("default", who.user)
    marks = (who.mark.encode(), user_mark(scope), user_mark(scope).hex().encode())
    found = in_files(folder, who.mark) + [
        key.decode() for key in in_valkey(pair.valkey.url("valkey"), *marks)
    ]
    url = pair.database_url
    return found + (in_postgres(url, who.mark) if url.startswith("postgres") else [])


def _is_let_in(client) -> bool:
    """Whether the server has heard that the erasure is complete."""
    try:
        client.memory.recall("x")
    except errors.Aborted:
        return False
    return True


def test_nothing_comes_back_of_what_is_under_way_on_two_servers(pair, tmp_path):
    ada, bob = Planted("ada"), Planted("bob")
    ada.plant(pair.one)
    bob.plant(pair.other)
    with Traffic(pair, ada) as adas, Traffic(pair, bob) as bobs:
        adas.wait()
        bobs.wait()
        # Calls and jobs of the user are under way now, on both servers; another's go on.
        adas.stop()
        receipt = erased(pair.one, ada.user)
        assert all(not store.remaining for store in receipt.stores)
        assert _everywhere(pair, tmp_path, ada) == []
        adas.join()
    assert bobs.failures == [], pair.one.log + pair.other.log
    assert _everywhere(pair, tmp_path, ada) == []
    for server in (pair.one, pair.other):
        with server.client(ada.user) as client:
            eventually(lambda client=client: _is_let_in(client), 10)
            assert client.memory.recall(ada.mark).hits == []
            assert list(client.memory.list_sessions()) == []
        with server.client(bob.user) as client:
            assert client.memory.recall(bob.mark).hits


def test_another_server_goes_on_where_one_was_killed(pair, tmp_path):
    ada = Planted("ada")
    ada.plant(pair.one)
    with pair.other.client(ada.user) as client:
        assert client.memory.recall(ada.mark).hits
    with pair.one.client(timeout=60) as client:
        begun = client.admin.erase_user(ada.user, timeout=1.5)
    assert not begun.complete
    pair.one.kill()
    # It is refused, unless the erasure is complete by now.
    with pair.other.client(ada.user) as client, suppress(errors.Aborted):
        assert client.memory.recall(ada.mark).hits == []
    receipt = erased(pair.other, ada.user)
    assert receipt.erasure_id == begun.erasure_id
    assert _everywhere(pair, tmp_path, ada) == []


class Traffic:
    """Uses every call for a user on both servers until it is stopped."""

    def __init__(self, pair: Pair, who: Planted) -> None:
        self._who = who
        self._stopped = threading.Event()
        self._rounds = 0
        self.failures: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, args=(server, work))
            for server in (pair.one, pair.other)
            for work in (self._write, self._read, self._converse)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.join()

    def stop(self) -> None:
        self._stopped.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)

    def wait(self) -> None:
        """Return when there was some of it."""
        eventually(lambda: self._rounds > 12, 60)

    def _run(self, server: RunningServer, work: Callable[[Recollect], None]) -> None:
        with server.client(self._who.user, timeout=30) as client:
            while not self._stopped.is_set():
                try:
                    work(client)
                except errors.RecollectError as error:
                    if not self._stopped.is_set():
                        self.failures.append(str(error))
                self._rounds += 1

    def _write(self, client: Recollect) -> None:
        session = client.memory.create_session(title=self._who.text("title")).session_id
        for number in range(11):
            self._who.append(client, session, number)
        client.memory.remember([self._who.text(f"fact {self._rounds}")], reconcile=True)
        client.memory.create_session(retention=memory_pb2.RETENTION_EPHEMERAL)

    def _read(self, client: Recollect) -> None:
        session = f"s-{self._who.mark}"
        client.memory.get_context(session, query=self._who.text("query"))
        client.memory.recall(self._who.text("fact"))
        client.cache.lookup(self._who.prompt(f"question {self._rounds}"))

    def _converse(self, client: Recollect) -> None:
        client.cache.store(self._who.prompt(f"q {self._rounds}"), self._who.text("answer"))
        client.chat.send(f"s-{self._who.mark}", self._who.text("chat"), timeout=30)

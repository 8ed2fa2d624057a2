"""Every RPC with every credential that must not get in: the right code, and nothing is touched.

The RPCs come from the contract's descriptors, so a new one is tested as soon as it is there.
"""

import json
import sqlite3
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from protovalidate import Validator
from tests.e2e.test_auth import key_of
from tests.harness import RunningServer, eventually, reason
from tests.issuer import AUDIENCE, ISSUER, Issuer
from tests.stores.valkey.valkey_server import Server

from recollect import user
from recollect.v1 import admin_pb2, cache_pb2, chat_pb2, common_pb2, memory_pb2
from recollect_server.admin.model import KeyRole
from recollect_server.rpc.authorization import ROLE_OF

METHODS = {
    method.name: method
    for module in (memory_pb2, cache_pb2, chat_pb2, admin_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

SECRET = "pineapple"
"""A word of ada's memory that no answer to others may hold."""

_MESSAGE = {"role": "ROLE_USER", "parts": [{"text": "hello"}]}
_PROMPT = {"model": "m", "messages": [_MESSAGE]}

EXAMPLES: dict[str, dict[str, Any]] = {
    "CreateSession": {"session_id": ""},
    "UpdateSession": {"session": {"title": "t"}, "update_mask": "title"},
    "AppendMessages": {"messages": [_MESSAGE]},
    "Remember": {"facts": [{"text": "a fact"}]},
    "Recall": {"query": "fruit"},
    "UpdateFact": {"fact": {"text": "t"}, "update_mask": "text"},
    "Lookup": {"prompt": _PROMPT},
    "BatchLookup": {"lookups": [{"user_id": "ada", "prompt": _PROMPT}]},
    "Store": {"prompt": _PROMPT, "answer": [{"text": "a"}]},
    "ReportFeedback": {"prompt": _PROMPT, "verdict": "VERDICT_WRONG"},
    "Chat": {"message": _MESSAGE},
    "StreamChat": {"message": _MESSAGE},
    "ImportUser": {"record_json": "{}"},
    "CreateApiKey": {"name": "k", "role": "KEY_ROLE_READER", "user_id": ""},
}
"""What a valid request holds beside the ids of ada's things."""

NAMES_NO_RESOURCE = {
    *("CreateSession", "Recall", "Lookup", "Store", "Invalidate", "GetStats", "ListEntries"),
    *("BatchLookup", "Remember", "ListSessions", "ListFacts", "ListEpisodes", "Watch"),
    *("EraseUser", "ExportUser", "ImportUser", "ListAuditEvents", "CreateApiKey", "ListApiKeys"),
    *("Reindex", "ListJobs", "GetServerInfo", "GetUsage"),
}
"""The others answer NOT_FOUND in a tenant where the resource they name does not exist."""

OPEN_SECONDS = 2.0
"""How long an endless stream is looked at."""


@dataclass
class World:
    """A server with ada's memory in the tenant acme."""

    server: RunningServer
    valkey: Server
    ids: dict[str, str]
    tokens: dict[str, str] = field(default_factory=dict)

    def request(self, method: MethodDescriptor) -> Message:
        """Return a valid request about ada's things."""
        known = {
            f.name: self.ids[f.name]
            for f in method.input_type.fields
            if f.name in self.ids and not f.is_repeated
        }
        return ParseDict(
            known | EXAMPLES.get(method.name, {}), GetMessageClass(method.input_type)()
        )

    def call(self, name: str, metadata: dict[str, str]) -> tuple[str, str, str]:
        """Call a method; return (code, reason, the responses as text)."""
        method = METHODS[name]
        request, answers = self.request(method), []
        kind = {
            (False, False): "unary_unary",
            (False, True): "unary_stream",
            (True, False): "stream_unary",
            (True, True): "stream_stream",
        }[method.client_streaming, method.server_streaming]
        with grpc.insecure_channel(self.server.address) as channel:
            stub = getattr(channel, kind)(
                f"/{method.containing_service.full_name}/{name}",
                request_serializer=type(request).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            given = iter([request]) if method.client_streaming else request
            seconds = OPEN_SECONDS if name == "Watch" else 30
            try:
                answer = stub(given, metadata=tuple(metadata.items()), timeout=seconds)
                answers = list(answer) if method.server_streaming else [answer]
            except grpc.RpcError as error:
                if name == "Watch" and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                    return "OK", "", ""
                trailing = dict(error.trailing_metadata() or ())
                return error.code().name, reason(trailing), error.details() or ""
        return "OK", "", "".join(map(str, answers))

    def state(self) -> dict[str, list[Any]]:
        """Return everything kept of acme: rows by table, and Valkey's keys."""
        kept: dict[str, list[Any]] = {}
        path = self.server.data_dir / "recollect.db"
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        users = "SELECT user_key FROM users WHERE tenant = 'acme'"
        for (table,) in tables.fetchall():
            # That a call was refused is in the audit log; keys that were given out are counted.
            if table in ("audit_events", "sqlite_sequence"):
                continue
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            if "user_key" in columns:
                where = f"WHERE user_key IN ({users})"
            elif "tenant" in columns:
                where = "WHERE tenant = 'acme'"
            else:
                where = ""
            # When a key was used is noted of valid ones alone, a minute later.
            wanted = ", ".join(c for c in columns if c != "last_use_time")
            rows = connection.execute(f"SELECT {wanted} FROM {table} {where} ORDER BY {wanted}")
            kept[table] = rows.fetchall()
        connection.close()
        for key in sorted(self.ids["valkey"].split()) if "valkey" in self.ids else ():
            kept[key] = [self.valkey.admin.dump(key)]
        return kept

    def settled(self) -> dict[str, list[Any]]:
        """Return the state once nothing changes it any more."""
        last: list[Any] = [None, self.state()]

        def same() -> bool:
            time.sleep(0.3)
            last[:] = [last[1], self.state()]
            return last[0] == last[1]

        eventually(same)
        return last[1]


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def valkey():
    running = Server()
    running.start()
    yield running
    running.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory, valkey):
    issuer, forger = Issuer(), Issuer()
    for one in (issuer, forger):
        one.add_key("one")
    jwks = tmp_path_factory.mktemp("jwks") / "jwks.json"
    jwks.write_text(json.dumps(issuer.key_set()))
    flags = ("--auth", "api-key,jwt", "--jwt-jwks", str(jwks), "--jwt-issuer", ISSUER)
    with RunningServer(
        *flags,
        *("--jwt-audience", AUDIENCE, "--no-worker"),
        environment={"RECOLLECT_STATE_URL": valkey.url("valkey")},
    ) as server:
        made = World(server, valkey, _fill(server))
        _settle_valkey(made)
        made.tokens = _tokens(server, issuer, forger)
        yield made


def _fill(server: RunningServer) -> dict[str, str]:
    """Make something of every kind in acme, and return the ids."""
    admin = key_of(server, f"{SECRET} key", "admin", "--tenant", "acme")
    with server.client("ada", api_key=admin) as client:
        session = client.memory.create_session(title=SECRET).session_id
        client.memory.append_messages(session, [user(f"I love {SECRET}")] * 3)
        fact = client.memory.remember([f"Loves {SECRET}"]).facts[0].fact_id
        prompt = common_pb2.Prompt(
            model="m",
            messages=[
                common_pb2.PromptMessage(
                    role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text="hello")]
                )
            ],
        )
        entry = client.cache.store(prompt, f"{SECRET}!").entry_id
        turn = client.chat.send(session, f"{SECRET}?").turn_id
        job = next(iter(client.admin.list_jobs())).job_id
        key = next(iter(client.admin.list_api_keys())).key_id
    return {
        "user_id": "ada",
        "session_id": session,
        "fact_id": fact,
        "episode_id": "episode",
        "entry_id": entry,
        "turn_id": turn,
        "job_id": job,
        "key_id": key,
    }


def _settle_valkey(world: World) -> None:
    """Note Valkey's keys once what is written behind is written."""
    world.settled()
    world.ids["valkey"] = " ".join(key.decode() for key in world.valkey.admin.keys("*"))
    assert world.ids["valkey"]


def _tokens(server: RunningServer, issuer: Issuer, forger: Issuer) -> dict[str, str]:
    tenant = ("--tenant", "acme")
    with server.client(api_key=key_of(server, "boot", "admin", *tenant)) as client:
        create = client.admin.create_api_key
        soon = datetime.now(UTC) + timedelta(seconds=2)
        revoked = create("revoked", admin_pb2.KEY_ROLE_ADMIN)
        client.admin.revoke_api_key(revoked.api_key.key_id)
        writer = create("writer", admin_pb2.KEY_ROLE_WRITER).token
        made = {
            "revoked key": revoked.token,
            "expired key": create("old", admin_pb2.KEY_ROLE_ADMIN, expire_time=soon).token,
            "forged key": writer[:-1] + ("A" if writer[-1] != "A" else "B"),
            "writer": writer,
            "reader": create("reader", admin_pb2.KEY_ROLE_READER).token,
            "other user": create("bob", admin_pb2.KEY_ROLE_WRITER, user_id="bob").token,
            "keyless": create("a", service_roles={"admin": admin_pb2.KEY_ROLE_ADMIN}).token,
        }
    made["other tenant"] = key_of(server, "other", "admin", "--tenant", "other")
    made["unknown key"] = "rk_0123456789abcdef_" + "x" * 43
    made["expired token"] = issuer.token("one", exp=time.time() - 60)
    made["forged token"] = forger.token("one", role="admin service")
    made["another audience's token"] = issuer.token("one", aud="billing", role="admin service")
    made["other user's token"] = issuer.token("one", sub="bob")
    made["user's admin token"] = issuer.token("one", sub="ada", role="admin")
    made["other tenant's token"] = issuer.token("one", tenant="other", role="admin service")
    made["token without a role"] = issuer.token("one", sub="x", role="service")
    while datetime.now(UTC) < soon:
        time.sleep(0.05)
    return made


def _role(name: str) -> KeyRole:
    return ROLE_OF[METHODS[name].containing_service.full_name][name]


def _refused(world: World, name: str, metadata: dict[str, str], code: str, why: str) -> None:
    before = world.state()
    found = world.call(name, metadata)
    assert found[:2] == (code, why), found
    assert SECRET not in found[2]
    assert world.state() == before


@pytest.mark.parametrize("name", METHODS)
def test_the_example_of_every_method_is_a_valid_request(world, name):
    request = world.request(METHODS[name])
    assert not Validator().collect_violations(request), f"EXAMPLES needs one of {name}"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YWRhOmFkYQ=="])
def test_no_key(world, name, header):
    why = "CREDENTIAL_INVALID" if header else "CREDENTIAL_MISSING"
    metadata = {} if header is None else {"authorization": header}
    _refused(world, name, metadata, "UNAUTHENTICATED", why)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "token",
    [
        *("unknown key", "forged key", "revoked key", "expired key"),
        *("expired token", "forged token", "another audience's token"),
    ],
)
def test_a_credential_that_is_not_valid(world, name, token):
    _refused(world, name, _bearer(world.tokens[token]), "UNAUTHENTICATED", "CREDENTIAL_INVALID")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("token", ["other user", "other user's token"])
def test_another_user(world, name, token):
    if _role(name) is KeyRole.NONE:
        assert world.call(name, _bearer(world.tokens[token]))[0] == "OK"
        return
    why = "ROLE_REQUIRED" if _role(name) is KeyRole.ADMIN else "OTHER_USER"
    _refused(world, name, _bearer(world.tokens[token]), "PERMISSION_DENIED", why)


@pytest.mark.parametrize(
    ("token", "role"),
    [
        ("token without a role", KeyRole.NONE),
        ("reader", KeyRole.READER),
        ("writer", KeyRole.WRITER),
    ],
)
@pytest.mark.parametrize("name", METHODS)
def test_a_role_that_is_too_low(world, name, token, role):
    if _role(name) > role:
        _refused(world, name, _bearer(world.tokens[token]), "PERMISSION_DENIED", "ROLE_REQUIRED")


@pytest.mark.parametrize("name", METHODS)
def test_a_key_of_one_service(world, name):
    if METHODS[name].containing_service.name != "AdminService":
        token = _bearer(world.tokens["keyless"])
        _refused(world, name, token, "PERMISSION_DENIED", "ROLE_REQUIRED")


@pytest.mark.parametrize("name", METHODS)
def test_a_user_s_token_administers_nothing(world, name):
    if _role(name) is KeyRole.ADMIN:
        token = _bearer(world.tokens["user's admin token"])
        _refused(world, name, token, "PERMISSION_DENIED", "ROLE_REQUIRED")


@pytest.mark.parametrize("name", METHODS)
def test_a_reader_may_read(world, name):
    if _role(name) <= KeyRole.READER:
        code, _, _ = world.call(name, _bearer(world.tokens["reader"]))
        assert code in ("OK", "NOT_FOUND")


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("token", ["other tenant", "other tenant's token"])
def test_another_tenant(world, name, token):
    before = world.state()
    code, why, said = world.call(name, _bearer(world.tokens[token]))
    assert code not in ("UNAUTHENTICATED", "PERMISSION_DENIED", "INTERNAL")
    if name not in NAMES_NO_RESOURCE and code != "UNIMPLEMENTED":
        assert (code, why.endswith("NOT_FOUND")) == ("NOT_FOUND", True), (code, why)
    assert SECRET not in said
    assert world.state() == before


def test_after_all_of_it_nothing_of_ada_was_touched(world):
    with world.server.client("ada", api_key=world.tokens["reader"]) as client:
        session = client.memory.get_session(world.ids["session_id"])
        assert session.title == SECRET
        texts = [m.parts[0].text for m in client.memory.list_messages(session.session_id)]
        assert texts[:3] == [f"I love {SECRET}"] * 3
        assert [f.text for f in client.memory.list_facts()] == [f"Loves {SECRET}"]
        assert SECRET in client.cache.get_entry(world.ids["entry_id"]).answer[0].text
        assert client.chat.get_turn(world.ids["turn_id"]).turn_id == world.ids["turn_id"]

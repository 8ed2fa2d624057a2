"""Requests made to be expensive, or to be taken for another's."""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from tests.fuzz import wire
from tests.fuzz.requests import CONFUSABLE, ZERO_WIDTH
from tests.fuzz.target import METHODS, path_of
from tests.harness import RunningServer, details, reason, unique

from recollect import Recollect, errors, user
from recollect.v1 import cache_pb2, common_pb2, memory_pb2

MEMORY = "recollect.v1.MemoryService"
DEEP = 100_000
MOST_SECONDS = 30.0
"""Far more than any of these needs, for a busy machine."""

LOOKALIKES = ("ada", *ZERO_WIDTH, *CONFUSABLE)
"""Ids that are drawn alike, or become equal when they are normalised, folded or stripped."""

on_both = pytest.mark.parametrize("server", ["sqlite", "postgres"], indirect=True, scope="session")


def _answered(server: RunningServer, method: str, data: bytes) -> tuple[grpc.StatusCode, str]:
    """Return code and reason of a call that must soon be answered, as must the one after it."""
    started = time.monotonic()
    code, _, trailing = server.raw(method, data)
    with server.client(unique("after")) as client:
        assert client.memory.create_session().session_id
    assert time.monotonic() - started < MOST_SECONDS
    return code, "" if code is grpc.StatusCode.OK else reason(trailing)


def _nested_messages() -> bytes:
    data = b""
    for _ in range(500):
        data = wire.delimited(3, data + wire.delimited(2, data[:1000]))
    return data


NESTED: dict[str, Callable[[], bytes]] = {
    "groups": lambda: wire.tag(100, wire.GROUP) * DEEP + wire.tag(100, wire.GROUP_END) * DEEP,
    "groups that never end": lambda: wire.tag(100, wire.GROUP) * DEEP,
    "messages": _nested_messages,
    "unknown fields": lambda: wire.delimited(100, wire.tag(100, wire.DELIMITED) * DEEP),
    "empty parts": lambda: wire.delimited(3, wire.delimited(2, b"") * 500_000),
    "empty messages": lambda: wire.delimited(3, b"") * 1_000_000,
}


@pytest.mark.parametrize("kind", NESTED)
def test_a_request_that_is_deep_or_has_very_many_parts_is_refused(server, kind):
    data = wire.delimited(1, b"ada") + wire.delimited(2, b"s") + NESTED[kind]()
    code, why = _answered(server, f"{MEMORY}/AppendMessages", data)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert why in ("UNDECODABLE_REQUEST", "INVALID_FIELD")


@pytest.mark.parametrize(
    "value",
    ["[" * DEEP + "]" * DEEP, '{"a":' * DEEP + "1" + "}" * DEEP, "[" * DEEP, "9" * DEEP],
    ids=["lists", "objects", "open", "digits"],
)
def test_deep_json_in_a_tool_s_input_or_schema_breaks_nothing(server, value):
    call = common_pb2.ToolCall(call_id="c", name="n", input_json=value)
    append = memory_pb2.AppendMessagesRequest(user_id="ada", session_id=unique("s"))
    append.messages.add(role=common_pb2.ROLE_ASSISTANT).parts.add(tool_call=call)
    store = cache_pb2.StoreRequest(user_id="ada", prompt=common_pb2.Prompt(model="m"))
    store.prompt.tools.add(name="n", input_schema_json=value)
    store.prompt.messages.add(role=common_pb2.ROLE_USER).parts.add(text="q")
    store.answer.add(text="a")
    for method, request in (
        (f"{MEMORY}/AppendMessages", append),
        ("recollect.v1.CacheService/Store", store),
    ):
        code, why = _answered(server, method, request.SerializeToString())
        assert code in (
            grpc.StatusCode.OK,
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
        ), why


def test_deep_json_in_metadata_is_a_text(server):
    deep = "[" * 2000 + "]" * 2000
    with server.client(unique("ada")) as client:
        session = client.memory.create_session(metadata={"a": deep})
        assert client.memory.get_session(session.session_id).metadata["a"] == deep


@pytest.mark.parametrize(
    ("method", "request_", "field"),
    [
        ("CreateSession", memory_pb2.CreateSessionRequest(user_id="ada"), "metadata"),
        (
            "Remember",
            memory_pb2.RememberRequest(user_id="ada", facts=[memory_pb2.NewFact(text="x")]),
            "facts[0].metadata",
        ),
        (
            "Recall",
            memory_pb2.RecallRequest(user_id="ada", query="q", filter=memory_pb2.RecallFilter()),
            "filter.metadata",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_10_000_metadata_keys_are_refused_by_their_field(server, method, request_, field):
    full = type(request_)()
    full.CopyFrom(request_)
    holder: Any = full
    for name in field.split(".")[:-1]:
        holder = holder.facts[0] if name == "facts[0]" else getattr(holder, name)
    for number in range(10_000):
        holder.metadata[f"key {number}"] = "value"
    code, _, trailing = server.raw(f"{MEMORY}/{method}", full.SerializeToString())
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    bad = details(trailing, error_details_pb2.BadRequest)
    assert bad.field_violations[0].field == field


def test_10_000_keys_of_call_metadata_harm_nobody_else(server):
    many = tuple((f"key-{number}", "value") for number in range(10_000))
    code, _, _ = server.raw("recollect.v1.AdminService/GetServerInfo", b"", many)
    assert code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
    assert server.raw("recollect.v1.AdminService/GetServerInfo", b"")[0] is grpc.StatusCode.OK


PAGED = [m for m in METHODS if "page_size" in m.input_type.fields_by_name]


@pytest.mark.parametrize("method", PAGED, ids=lambda method: method.name)
@pytest.mark.parametrize("size", [2**31 - 1, -1, -(2**31)])
def test_a_huge_page_is_a_page_and_a_negative_one_is_refused(server, method, size):
    request = GetMessageClass(method.input_type)(page_size=size)
    for name in {"user_id", "session_id"} & set(method.input_type.fields_by_name):
        setattr(request, name, "ada")
    if method.name == "ListMessages":
        with server.client("ada") as client, suppress(errors.AlreadyExists):
            client.memory.create_session(session_id="ada")
    code, message, _ = server.raw(path_of(method)[1:], request.SerializeToString())
    wanted = grpc.StatusCode.OK if size > 0 else grpc.StatusCode.INVALID_ARGUMENT
    assert code is wanted, message


def test_a_page_that_is_asked_to_be_huge_has_1000_items(server):
    with server.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        for _ in range(2):
            client.memory.append_messages(session, ["x"] * 600)
        request = memory_pb2.ListMessagesRequest(
            user_id=client.memory._user(None), session_id=session, page_size=2**31 - 1
        )
        with grpc.insecure_channel(server.address) as channel:
            call = channel.unary_unary(f"/{MEMORY}/ListMessages")
            found = memory_pb2.ListMessagesResponse.FromString(call(request.SerializeToString()))
    assert len(found.messages) == 1000
    assert found.next_page_token


def test_a_request_of_more_bytes_than_allowed_is_refused(server):
    with server.client(unique("ada"), timeout=60) as client:
        limit = client.admin.get_server_info().max_request_bytes
        code, _, _ = server.raw(f"{MEMORY}/Recall", b"\x12" + b"x" * limit)
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.memory.create_session().session_id


# What is served beside the contract.

BESIDE = (
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)


@pytest.mark.parametrize("path", BESIDE)
@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x02\xff\xff", b"\x0a\x7f"])
def test_health_and_reflection_refuse_what_is_no_request(server, path, data):
    with grpc.insecure_channel(server.address) as channel:
        # One message each way is the same on the wire, whichever kind the method is.
        call: Any = channel.stream_stream(path)(iter([data]), timeout=30)
        with pytest.raises(grpc.RpcError):
            next(call)
    assert call.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert re.fullmatch(r"not a \w+Request", call.details())


# Ids that look alike.


@on_both
def test_users_who_look_alike_are_different_people(server):
    suffix = unique("")
    clients = {name: server.client(name + suffix) for name in LOOKALIKES}
    for name, client in clients.items():
        _fill(client, name)
    for name, client in clients.items():
        found = [s.session_id for s in client.memory.list_sessions()]
        assert found == ["here"], name
        said = [m.parts[0].text for m in client.memory.list_messages("here")]
        assert said == [f"{name!r} was here"]
        facts = list(client.memory.list_facts())
        assert [(f.user_id, f.text) for f in facts] == [(name + suffix, f"{name!r} is a name")]
        recalled = client.memory.recall("name", top_k=50)
        assert {hit.fact.text for hit in recalled.hits if hit.HasField("fact")} == {
            f"{name!r} is a name"
        }
        client.close()


def _fill(client: Recollect, name: str) -> None:
    client.memory.create_session(session_id="here")
    client.memory.append_messages("here", [f"{name!r} was here"])
    client.memory.remember([memory_pb2.NewFact(fact_id="name", text=f"{name!r} is a name")])


@on_both
def test_ids_that_look_alike_are_different_ids(server):
    with server.client(unique("ada")) as client:
        for number, name in enumerate(LOOKALIKES):
            client.memory.create_session(session_id=name, title=str(number))
            client.memory.append_messages(name, [user(f"text {number}", external_id=name)])
            fact = memory_pb2.NewFact(fact_id=name, text=f"Fact number {number}.")
            client.memory.remember([fact])
        assert {s.session_id for s in client.memory.list_sessions()} == set(LOOKALIKES)
        assert {f.fact_id for f in client.memory.list_facts()} == set(LOOKALIKES)
        for number, name in enumerate(LOOKALIKES):
            assert client.memory.get_session(name).title == str(number)
            (message,) = client.memory.list_messages(name)
            assert (message.parts[0].text, message.external_id) == (f"text {number}", name)
            assert client.memory.get_fact(name).text == f"Fact number {number}."
        client.memory.delete_session(LOOKALIKES[1])
        left = {s.session_id for s in client.memory.list_sessions()}
        assert left == set(LOOKALIKES) - {LOOKALIKES[1]}


@on_both
def test_answers_and_tags_that_look_alike_are_different(server):
    prompt = common_pb2.Prompt(model="m")
    prompt.messages.add(role=common_pb2.ROLE_USER).parts.add(text="How tall is it?")
    scope = cache_pb2.CACHE_SCOPE_SESSION
    exact = (cache_pb2.CACHE_TIER_EXACT,)
    with server.client(unique("ada")) as client:
        for name in LOOKALIKES:
            client.cache.store(prompt, f"for {name!r}", session_id=name, scope=scope, tags=[name])
        for name in LOOKALIKES:
            found = client.cache.lookup(prompt, session_id=name, scope=scope, tiers=exact)
            assert found.hit
            assert found.entry.answer[0].text == f"for {name!r}"
        for name in LOOKALIKES:
            assert client.cache.invalidate(tag=name, dry_run=True) == 1

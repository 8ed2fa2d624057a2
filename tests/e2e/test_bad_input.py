"""Bad input gets the right code with the field named, and nothing is written."""

import re
from dataclasses import dataclass

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from tests.harness import details, reason, unique

from recollect import errors
from recollect.v1 import cache_pb2, chat_pb2, common_pb2, memory_pb2

MEMORY, CHAT, CACHE = (f"recollect.v1.{name}Service" for name in ("Memory", "Chat", "Cache"))
INVALID = grpc.StatusCode.INVALID_ARGUMENT
HELLO = memory_pb2.NewMessage(
    role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text="hello")]
)
LONG = memory_pb2.NewMessage(
    role=common_pb2.ROLE_USER, parts=[common_pb2.ContentPart(text="x" * (1024 * 1024 + 1))]
)


@dataclass(frozen=True)
class Case:
    """A bad request to a session that exists."""

    name: str
    method: str
    request: Message
    field: str
    code: grpc.StatusCode = INVALID
    reason: str = "INVALID_FIELD"


def _append(name: str, field: str, **fields) -> Case:
    values = {"user_id": "U", "session_id": "S", "messages": [HELLO]} | fields
    request = memory_pb2.AppendMessagesRequest(**values)
    return Case(name, f"{MEMORY}/AppendMessages", request, field)


def _message(name: str, field: str, **fields) -> Case:
    values = {"role": common_pb2.ROLE_USER, "parts": HELLO.parts} | fields
    bad = memory_pb2.NewMessage(**values)
    return _append(name, f"messages[1].{field}", messages=[HELLO, bad, HELLO])


def _context(name: str, field: str, **options) -> Case:
    request = memory_pb2.GetContextRequest(
        user_id="U", session_id="S", options=memory_pb2.ContextOptions(**options)
    )
    return Case(name, f"{MEMORY}/GetContext", request, field)


def _recall(name: str, field: str, **fields) -> Case:
    values = {"user_id": "U", "query": "q"} | fields
    return Case(name, f"{MEMORY}/Recall", memory_pb2.RecallRequest(**values), field)


def _list(name: str, field: str, why: str = "INVALID_FIELD", **fields) -> Case:
    request = memory_pb2.ListMessagesRequest(user_id="U", session_id="S", **fields)
    return Case(name, f"{MEMORY}/ListMessages", request, field, reason=why)


PROMPT = common_pb2.Prompt(
    model="m",
    messages=[common_pb2.PromptMessage(role=common_pb2.ROLE_USER, parts=HELLO.parts)],
)


def _with_schema(schema: str) -> chat_pb2.ChatRequest:
    """Return a turn with a tool whose arguments a JSON schema describes."""
    options = {"tools": [{"name": "f", "input_schema_json": schema}]}
    return chat_pb2.ChatRequest(user_id="U", session_id="S", message=HELLO, options=options)


CASES = [
    _append("no messages", "messages", messages=[]),
    _append("no user", "user_id", user_id=""),
    _append("no session", "session_id", session_id=""),
    _append("id too long", "session_id", session_id="x" * 257),
    _append("NUL in an id", "session_id", session_id="a\x00b"),
    _append("request_id no UUID", "request_id", request_id="42"),
    _append("negative expected_revision", "expected_revision", expected_revision=-1),
    _append("a message over 1 MiB", "messages[1].parts", messages=[HELLO, LONG]),
    _append("too many messages", "messages", messages=[HELLO] * 1001),
    _message("no role", "role", role=0),
    _message("unknown role", "role", role=99),
    _message("no parts", "parts", parts=[]),
    _message("empty text", "parts[0].text", parts=[common_pb2.ContentPart(text="")]),
    _message("empty part", "parts[0].kind", parts=[common_pb2.ContentPart()]),
    _message("too many pairs", "metadata", metadata={str(n): "" for n in range(65)}),
    _message("a pair too long", "metadata['k']", metadata={"k": "v" * 4097}),
    _message("time out of range", "time", time={"seconds": 10**15}),
    _message(
        "a tool call that is no JSON",
        "parts[1].tool_call.input_json",
        parts=[
            HELLO.parts[0],
            common_pb2.ContentPart(tool_call={"call_id": "c", "name": "f", "input_json": "{x"}),
        ],
    ),
    _context("negative budget", "options.token_budget", token_budget=-1),
    _context("unknown profile", "options.profile", profile=99),
    _context("too many facts", "options.max_facts", max_facts=101),
    _recall("empty query", "query", query=""),
    _recall("top_k too large", "top_k", top_k=101),
    _recall("negative top_k", "top_k", top_k=-1),
    _recall("unknown kind", "kinds[0]", kinds=[77]),
    _recall("negative min_revision", "min_revision", min_revision=-1),
    _list("negative page_size", "page_size", page_size=-1),
    _list("unknown order", "order", order=9),
    _list("wrong page token", "page_token", "INVALID_PAGE_TOKEN", page_token="bm90IG1pbmU"),
    _list("page token no base64", "page_token", "INVALID_PAGE_TOKEN", page_token="?!"),
    Case(
        "chat without a message",
        f"{CHAT}/Chat",
        chat_pb2.ChatRequest(user_id="U", session_id="S"),
        "message",
    ),
    Case(
        "chat message over 1 MiB",
        f"{CHAT}/Chat",
        chat_pb2.ChatRequest(user_id="U", session_id="S", message=LONG),
        "message.parts",
    ),
    Case(
        "streamed chat message over 1 MiB",
        f"{CHAT}/StreamChat",
        chat_pb2.StreamChatRequest(user_id="U", session_id="S", message=LONG),
        "message.parts",
    ),
    Case(
        "a tool whose schema is no JSON object",
        f"{CHAT}/Chat",
        _with_schema("[1]"),
        "options.tools[0].input_schema_json",
    ),
    Case(
        "a chat message of the model's",
        f"{CHAT}/Chat",
        chat_pb2.ChatRequest(
            user_id="U",
            session_id="S",
            message=memory_pb2.NewMessage(role=common_pb2.ROLE_ASSISTANT, parts=HELLO.parts),
        ),
        "message.role",
    ),
    Case(
        "lookup without a prompt",
        f"{CACHE}/Lookup",
        cache_pb2.LookupRequest(user_id="U"),
        "prompt",
    ),
    Case(
        "scope SESSION without a session",
        f"{CACHE}/Lookup",
        cache_pb2.LookupRequest(user_id="U", prompt=PROMPT, scope=2),
        "session_id",
    ),
    Case(
        "a rate where distance decides",
        f"{CACHE}/Lookup",
        cache_pb2.LookupRequest(user_id="U", prompt=PROMPT, strategy=2, max_false_hit_rate=0.1),
        "max_false_hit_rate",
    ),
    Case(
        "a distance that is no number",
        f"{CACHE}/Lookup",
        cache_pb2.LookupRequest(user_id="U", prompt=PROMPT, max_distance=float("nan")),
        "max_distance",
    ),
    Case(
        "removal of what is similar without saying how similar",
        f"{CACHE}/Invalidate",
        cache_pb2.InvalidateRequest(user_id="U", similar={"prompt": PROMPT}),
        "similar.min_similarity",
    ),
    Case(
        "a version that no fact has",
        f"{MEMORY}/UpdateFact",
        memory_pb2.UpdateFactRequest(
            user_id="U", fact_id="F", fact={}, update_mask={"paths": ["text"]}, expected_version=0
        ),
        "expected_version",
    ),
    Case(
        "removal of a session's answers without the session",
        f"{CACHE}/Invalidate",
        cache_pb2.InvalidateRequest(user_id="U", scope={"scope": 2}),
        "scope.session_id",
    ),
    Case(
        "removal of nothing",
        f"{CACHE}/Invalidate",
        cache_pb2.InvalidateRequest(user_id="U"),
        "selector",
    ),
    Case(
        "feedback without a verdict",
        f"{CACHE}/ReportFeedback",
        cache_pb2.ReportFeedbackRequest(user_id="U", entry_id="e", prompt=PROMPT),
        "verdict",
    ),
    Case(
        "a fact that ends before it begins",
        f"{MEMORY}/Remember",
        memory_pb2.RememberRequest(
            user_id="U",
            facts=[
                memory_pb2.NewFact(text="a"),
                memory_pb2.NewFact(text="b", valid_from={"seconds": 9}, valid_to={"seconds": 8}),
            ],
        ),
        "facts[1].valid_to",
    ),
    Case(
        "a schema that no parser of JSON takes",
        f"{CHAT}/Chat",
        _with_schema('{"maximum": NaN}'),
        "options.tools[0].input_schema_json",
    ),
    Case(
        "half a character in a tool's call",
        f"{MEMORY}/AppendMessages",
        memory_pb2.AppendMessagesRequest(
            user_id="U",
            session_id="S",
            messages=[
                memory_pb2.NewMessage(
                    role=common_pb2.ROLE_ASSISTANT,
                    parts=[
                        {
                            "tool_call": {
                                "call_id": "c",
                                "name": "t",
                                "input_json": r'{"a": "\ud800"}',
                            }
                        }
                    ],
                )
            ],
        ),
        "messages[0].parts[0].tool_call.input_json",
    ),
    Case(
        "an update of nothing known",
        f"{MEMORY}/UpdateSession",
        memory_pb2.UpdateSessionRequest(
            user_id="U",
            session_id="S",
            session=memory_pb2.Session(title="x"),
            update_mask={"paths": ["revision"]},
        ),
        "update_mask",
    ),
]


@pytest.fixture(scope="module")
def place(server):
    """A user with a session of one message."""
    user, session = unique("ada"), unique("s")
    with server.client(user) as client:
        client.memory.create_session(session_id=session)
        client.memory.append_messages(session, ["before"])
    return user, session


def _placed(request: Message, place) -> bytes:
    copy = type(request)()
    copy.CopyFrom(request)
    if getattr(copy, "user_id", "") == "U":
        copy.user_id = place[0]
    if getattr(copy, "session_id", "") == "S":
        copy.session_id = place[1]
    return copy.SerializeToString()


def _state(server, place):
    with server.client(place[0]) as client:
        return (
            client.memory.get_session(place[1]),
            [m.message_id for m in client.memory.list_messages(place[1])],
            [f.fact_id for f in client.memory.list_facts()],
        )


def _says_nothing_internal(text: str) -> bool:
    return not re.search(r"Traceback|Exception|Error\b|0x[0-9a-f]{6}|\.py\b", text)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_field_is_named_and_nothing_is_written(server, place, case):
    before = _state(server, place)
    code, message, trailing = server.raw(case.method, _placed(case.request, place))
    assert code is case.code, message
    assert reason(trailing) == case.reason
    bad = details(trailing, error_details_pb2.BadRequest)
    assert case.field in [violation.field for violation in bad.field_violations]
    assert all(violation.description for violation in bad.field_violations)
    assert _says_nothing_internal(message)
    assert trailing["x-request-id"]
    assert _state(server, place) == before


@pytest.mark.parametrize(
    "method",
    [f"{MEMORY}/AppendMessages", f"{MEMORY}/Recall", f"{CHAT}/StreamChat", f"{MEMORY}/Watch"],
)
@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\n\x02\xc3\x28", b"\n\x7fshort"])
def test_bytes_that_do_not_decode_are_an_invalid_argument(server, method, data):
    code, message, trailing = server.raw(method, data)
    assert code is INVALID
    assert reason(trailing) == "UNDECODABLE_REQUEST"
    assert _says_nothing_internal(message)


def test_a_request_over_4_mib_is_refused_and_nothing_is_written(server, place):
    before = _state(server, place)
    part = common_pb2.ContentPart(text="x" * 1_000_000)
    big = memory_pb2.NewMessage(role=common_pb2.ROLE_USER, parts=[part])
    request = memory_pb2.AppendMessagesRequest(
        user_id=place[0], session_id=place[1], messages=[big] * 5
    )
    code, _, _ = server.raw(f"{MEMORY}/AppendMessages", request.SerializeToString())
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert _state(server, place) == before


def test_a_request_of_almost_4_mib_is_stored(server):
    user = unique("big")
    with server.client(user) as client:
        session = client.memory.create_session().session_id
        texts = ["x" * 1_000_000] * 4
        client.memory.append_messages(session, texts)
        assert [len(m.parts[0].text) for m in client.memory.list_messages(session)] == [10**6] * 4


UNKNOWN = {"user_id": "nobody", "session_id": "nothing"}


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        (f"{MEMORY}/GetSession", memory_pb2.GetSessionRequest(**UNKNOWN)),
        (f"{MEMORY}/ClearSession", memory_pb2.ClearSessionRequest(**UNKNOWN)),
        (f"{MEMORY}/DeleteSession", memory_pb2.DeleteSessionRequest(**UNKNOWN)),
        (
            f"{MEMORY}/AppendMessages",
            memory_pb2.AppendMessagesRequest(**UNKNOWN, messages=[HELLO]),
        ),
        (f"{MEMORY}/ListMessages", memory_pb2.ListMessagesRequest(**UNKNOWN)),
        (f"{MEMORY}/GetContext", memory_pb2.GetContextRequest(**UNKNOWN)),
        (f"{CHAT}/Chat", chat_pb2.ChatRequest(**UNKNOWN, message=HELLO)),
        (f"{CHAT}/StreamChat", chat_pb2.StreamChatRequest(**UNKNOWN, message=HELLO)),
    ],
    ids=lambda value: value.rpartition("/")[2] if isinstance(value, str) else "",
)
def test_an_unknown_session_is_not_found(server, method, request_):
    code, message, trailing = server.raw(method, request_.SerializeToString())
    assert code is grpc.StatusCode.NOT_FOUND, message
    assert reason(trailing) == "SESSION_NOT_FOUND"
    assert details(trailing, error_details_pb2.ResourceInfo).resource_name == "nothing"


def test_a_page_token_is_good_for_its_own_request_only(server, place):
    with server.client(place[0]) as client:
        client.memory.append_messages(place[1], ["a", "b", "c"])
    request = memory_pb2.ListMessagesRequest(user_id=place[0], session_id=place[1], page_size=2)
    with grpc.insecure_channel(server.address) as channel:
        from recollect.v1 import memory_pb2_grpc

        stub = memory_pb2_grpc.MemoryServiceStub(channel)
        token = stub.ListMessages(request).next_page_token
        request.page_token = token
        assert stub.ListMessages(request).messages[0].sequence == 3
        request.order = memory_pb2.LIST_ORDER_NEWEST_FIRST
        with pytest.raises(grpc.RpcError) as caught:
            stub.ListMessages(request)
    assert caught.value.code() is INVALID


def test_a_model_s_name_with_a_nul_is_refused_by_its_field(server):
    with server.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        with pytest.raises(errors.InvalidArgument) as caught:
            client.chat.send(session, "hi", options=chat_pb2.ChatOptions(model="m\0"))
        assert [field for field, _ in caught.value.field_violations] == ["options.model"]

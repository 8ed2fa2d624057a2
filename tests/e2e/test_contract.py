"""What the server says of itself is what it does."""

import re
from pathlib import Path

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

from recollect.v1 import admin_pb2, cache_pb2, chat_pb2, common_pb2, memory_pb2

README = Path(__file__).resolve().parents[2] / "README.md"
METHODS = [
    method
    for module in (memory_pb2, cache_pb2, chat_pb2, admin_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
_ROW = re.compile(r"^\| (\w+Service) \| ([\w, ]+) \|$", re.MULTILINE)


def _valid(method) -> bytes:
    """Return a request that no rule refuses, so that the method itself answers."""
    request = GetMessageClass(method.input_type)()
    for field in request.DESCRIPTOR.fields:
        if field.name in ("user_id", "session_id", "fact_id", "episode_id", "turn_id", "entry_id"):
            setattr(request, field.name, "nothing")
    if method.name in ("Invalidate",):
        request.tag, _ = "t", request.ClearField("entry_id")
    if method.name == "ReportFeedback":
        request.verdict = cache_pb2.VERDICT_WRONG
        request.prompt.model = "m"
        request.prompt.messages.add(role=1).parts.add(text="x")
    if method.name == "RetryJob":
        request.job_id = "nothing"
    return request.SerializeToString()


# Writes that come to the same when repeated, as the contract says beside them. Of an import the
# records are a stream.
REPEATABLE = {
    "ExtractFacts",
    "CompactSession",
    "Store",
    "Invalidate",
    "ReportFeedback",
    "CancelTurn",
    "RevokeApiKey",
    "Reindex",
    "ImportUser",
}
READS = re.compile(r"(Get|List|Recall|Lookup|BatchLookup|Watch|ResumeChat|Export)")


def test_every_write_has_a_request_id_or_comes_to_the_same_when_repeated():
    writes = {m.name: m for m in METHODS if not READS.match(m.name)}
    without = {n for n, m in writes.items() if "request_id" not in m.input_type.fields_by_name}
    assert without == REPEATABLE


@pytest.mark.parametrize("module", [common_pb2, memory_pb2, cache_pb2, chat_pb2, admin_pb2])
def test_stubs_that_users_generate_get_names_for_their_language(module):
    options = module.DESCRIPTOR.GetOptions()
    assert options.go_package == "github.com/recollect-ai/recollect/clients/go/recollectv1"
    assert (options.java_package, options.java_multiple_files) == ("ai.recollect.v1", True)


def test_the_readme_lists_every_method_once():
    rows = _ROW.findall(README.read_text())
    listed = [(service, name) for service, names in rows for name in names.split(", ")]
    assert sorted(listed) == sorted((m.containing_service.name, m.name) for m in METHODS)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: m.name)
def test_every_method_is_served(server, method):
    data = b"" if method.client_streaming else _valid(method)
    code, message, _ = server.raw(f"{method.containing_service.full_name}/{method.name}", data)
    assert code is not grpc.StatusCode.UNIMPLEMENTED, message

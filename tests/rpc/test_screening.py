"""No request that breaks a rule passes the screen, and those pass that calls are made of."""

from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from protovalidate import Validator
from tests.fuzz.requests import generate, request

from recollect.v1 import admin_pb2, cache_pb2, chat_pb2, common_pb2, memory_pb2
from recollect_server.bench.connection import append_request, context_request
from recollect_server.bench.workloads import prompt_of
from recollect_server.rpc.screening import screen_of
from recollect_server.rpc.times import malformed_times

SERVICES = [
    service
    for module in (memory_pb2, cache_pb2, chat_pb2, admin_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
METHODS = [method for service in SERVICES for method in service.methods]
REQUESTS = 150


@pytest.mark.parametrize("method", METHODS, ids=[method.name for method in METHODS])
def test_what_passes_keeps_every_rule(method: MethodDescriptor) -> None:
    screen, validator = screen_of(method.input_type), Validator()
    parse = GetMessageClass(method.input_type).FromString
    for data in generate(request(method.input_type, {}), REQUESTS, start=1):
        try:
            message = parse(data)
        except (DecodeError, ValueError):
            continue
        # Those with such times come no further.
        if not malformed_times(message) and (screen is None or screen(message)):
            assert validator.collect_violations(message) == [], message


PROMPT = prompt_of(["It is warm.", "Yes."], "And tomorrow?")
USUAL = [
    append_request("ada", "main", ["hello"]),
    context_request("ada", "main"),
    memory_pb2.RecallRequest(user_id="ada", query="when?", top_k=5),
    cache_pb2.LookupRequest(user_id="ada", prompt=PROMPT, tiers=[1], max_false_hit_rate=0.5),
    cache_pb2.StoreRequest(
        user_id="ada", prompt=PROMPT, answer=[common_pb2.ContentPart(text="Also.")]
    ),
]


@pytest.mark.parametrize("message", USUAL, ids=[type(message).__name__ for message in USUAL])
def test_the_usual_requests_pass(message: Any) -> None:
    screen = screen_of(message.DESCRIPTOR)
    assert screen is not None
    assert screen(message)
    message.user_id = ""
    assert not screen(message)


# As in buf/validate/validate.proto: a rule of the field's kind that is not understood, a kind that
# is not, an expression in CEL, values of a list that come apart.
UNKNOWN = {
    "max_len": b"\x72\x02\x18\x01",
    "bytes": b"\x7a\x02\x18\x01",
    "cel": b"\xba\x01\x02\x0a\x00",
    "required": b"\xc8\x01\x01",
    "twice": b"\x72\x04\x10\x01\x10\x02",
}


@pytest.mark.parametrize("rules", UNKNOWN.values(), ids=UNKNOWN)
def test_a_rule_that_is_not_understood_lets_nothing_pass(rules: bytes) -> None:
    file = descriptor_pb2.FileDescriptorProto(name="x.proto", syntax="proto3")
    field = file.message_type.add(name="X").field.add(name="text", number=1)
    field.type, field.label = field.TYPE_STRING, field.LABEL_OPTIONAL
    # Number 1159, length-delimited.
    field.options.MergeFromString(b"\xba\x48" + bytes([len(rules)]) + rules)
    pool = DescriptorPool()
    pool.Add(file)
    descriptor = pool.FindMessageTypeByName("X")
    screen = screen_of(descriptor)
    assert screen is not None
    assert not screen(GetMessageClass(descriptor)(text="ab"))

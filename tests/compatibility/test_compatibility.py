"""The oldest supported contracts against the newest server.

`scripts/generate.py --keep VERSION` keeps the contract of a release here. A stub made of it is
made from that file alone, in a pool of its own: nothing of the present contract helps it.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2
from tests.compatibility.breaks import breaks
from tests.compatibility.stub import Stub, present_contract, read_contract
from tests.harness import details, unique

KEPT = sorted(Path(__file__).parent.glob("contract-*.binpb"))
kept_contracts = pytest.mark.parametrize("kept", KEPT, ids=lambda path: path.stem)


def _text(role: str, text: str) -> dict[str, Any]:
    return {"role": f"ROLE_{role}", "parts": [{"text": text}]}


@pytest.fixture
def channel(server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


@kept_contracts
def test_a_round_of_calls_by_an_old_stub(kept, channel):
    stub = Stub(read_contract(kept), channel)
    ada = {"user_id": unique("ada")}
    session = stub.call("MemoryService", "CreateSession", **ada, title="Travel")["session"]
    of_session = ada | {"session_id": session["session_id"]}
    said = [_text("USER", "We fly to Lisbon on 3 May."), _text("ASSISTANT", "Noted.")]
    stub.call("MemoryService", "AppendMessages", **of_session, messages=said)
    context = stub.call("MemoryService", "GetContext", **of_session)
    assert "We fly to Lisbon on 3 May." in str(context)
    hits = stub.call("MemoryService", "Recall", **ada, query="When do we fly to Lisbon?")["hits"]
    assert hits[0]["turn"]["parts"] == said[0]["parts"]

    asked = _text("USER", "When do we fly to Lisbon?")
    turn = stub.call("ChatService", "Chat", **of_session, message=asked)["turn"]
    assert turn["state"] == "TURN_STATE_DONE"
    events = [
        response["event"]
        for response in stub.stream("ChatService", "StreamChat", **of_session, message=asked)
    ]
    assert "started" in events[0]
    assert "done" in events[-1]
    assert [int(event["sequence"]) for event in events] == list(range(1, len(events) + 1))

    prompt = {"model": "m", "messages": [_text("USER", "What is the capital of Portugal?")]}
    answer = [{"text": "Lisbon."}]
    entry = stub.call("CacheService", "Store", **ada, prompt=prompt, answer=answer)["entry"]
    found = stub.call("CacheService", "Lookup", **ada, prompt=prompt)
    assert found["entry"]["entry_id"] == entry["entry_id"]
    assert found["entry"]["answer"] == answer


@kept_contracts
def test_an_old_stub_knows_the_reason_of_an_error(kept, channel):
    contract = read_contract(kept)
    with pytest.raises(grpc.RpcError) as caught:
        Stub(contract, channel).call(
            "MemoryService", "GetSession", user_id="ada", session_id="missing"
        )
    failed: Any = caught.value
    assert failed.code() == grpc.StatusCode.NOT_FOUND
    info = details(dict(failed.trailing_metadata()), error_details_pb2.ErrorInfo)
    reasons = {v.name for f in contract.file for e in f.enum_type for v in e.value}
    assert f"ERROR_REASON_{info.reason}" in reasons


@kept_contracts
def test_all_of_an_old_contract_is_in_the_present_one(kept):
    assert not breaks(read_contract(kept), present_contract())


def _message(files: FileDescriptorSet, name: str) -> Any:
    return next(m for f in files.file for m in f.message_type if m.name == name)


def _method(files: FileDescriptorSet, name: str) -> Any:
    return next(m for f in files.file for s in f.service for m in s.method if m.name == name)


def _enum(files: FileDescriptorSet, name: str) -> Any:
    return next(e for f in files.file for e in f.enum_type if e.name == name)


def _rename(files: FileDescriptorSet) -> None:
    _message(files, "RecallRequest").field[1].name = "question"


def _renumber(files: FileDescriptorSet) -> None:
    _message(files, "RecallRequest").field[1].number = 99


def _retype(files: FileDescriptorSet) -> None:
    _message(files, "RecallRequest").field[1].type = FieldDescriptorProto.TYPE_BYTES


def _repeat(files: FileDescriptorSet) -> None:
    _message(files, "RecallRequest").field[1].label = FieldDescriptorProto.LABEL_REPEATED


def _drop_field(files: FileDescriptorSet) -> None:
    del _message(files, "RecallRequest").field[1]


def _leave_oneof(files: FileDescriptorSet) -> None:
    _message(files, "ContentPart").field[0].ClearField("oneof_index")


def _drop_message(files: FileDescriptorSet) -> None:
    _message(files, "RecallRequest").name = "Recalling"


def _drop_value(files: FileDescriptorSet) -> None:
    del _enum(files, "Role").value[1]


def _renumber_value(files: FileDescriptorSet) -> None:
    _enum(files, "Role").value[1].number = 99


def _drop_method(files: FileDescriptorSet) -> None:
    _method(files, "Recall").name = "Search"


def _stream(files: FileDescriptorSet) -> None:
    _method(files, "Recall").server_streaming = True


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_rename, "recollect.v1.RecallRequest.query: was "),
        (_renumber, "recollect.v1.RecallRequest.query: was "),
        (_retype, "recollect.v1.RecallRequest.query: was "),
        (_repeat, "recollect.v1.RecallRequest.query: was "),
        (_drop_field, "recollect.v1.RecallRequest.query: was "),
        (_leave_oneof, "recollect.v1.ContentPart.text: was "),
        (_drop_message, "recollect.v1.RecallRequest: was a message, is gone"),
        (_drop_value, "recollect.v1.Role.ROLE_"),
        (_renumber_value, "recollect.v1.Role.ROLE_"),
        (_drop_method, "recollect.v1.MemoryService.Recall: was "),
        (_stream, "recollect.v1.MemoryService.Recall: was "),
    ],
)
def test_a_break_is_found_and_named(change: Callable[[FileDescriptorSet], None], named: str):
    broken = present_contract()
    change(broken)
    found = breaks(present_contract(), broken)
    assert found
    assert found[0].startswith(named)


def test_additions_are_no_breaks():
    more = present_contract()
    _message(more, "RecallRequest").field.add(name="more", json_name="more", number=999)
    _enum(more, "Role").value.add(name="ROLE_MORE", number=999)
    assert not breaks(present_contract(), more)

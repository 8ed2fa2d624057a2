"""Calls by a contract alone, with and for what JSON can say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from tests.compatibility.breaks import PACKAGE

from recollect_server.rpc import reflection


def read_contract(path: Path) -> FileDescriptorSet:
    """Read a contract that was kept."""
    return FileDescriptorSet.FromString(path.read_bytes())


def present_contract() -> FileDescriptorSet:
    """Return the contract of the present server."""
    return read_contract(Path(reflection.__file__).with_name("contract.binpb"))


class Stub:
    """Calls methods as a contract describes them; nothing of another contract helps it."""

    def __init__(self, contract: FileDescriptorSet, channel: grpc.Channel) -> None:
        self._pool = DescriptorPool()
        for file in contract.file:
            self._pool.AddSerializedFile(file.SerializeToString())
        self._channel = channel

    def stream(self, service: str, method: str, **request: Any) -> Iterator[dict[str, Any]]:
        """Return the responses; a unary method has one."""
        described = self._pool.FindServiceByName(f"{PACKAGE}.{service}").methods_by_name[method]
        call = self._channel.unary_stream(
            f"/{PACKAGE}.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(described.output_type).FromString,
        )
        message = ParseDict(request, GetMessageClass(described.input_type)())
        for response in call(message, timeout=60):
            yield MessageToDict(response, preserving_proto_field_name=True)

    def call(self, service: str, method: str, **request: Any) -> dict[str, Any]:
        """Return the one response."""
        (response,) = self.stream(service, method, **request)
        return response

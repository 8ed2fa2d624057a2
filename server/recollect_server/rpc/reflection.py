"""Server reflection v1 and v1alpha, from descriptors that keep the contract's comments.

The two versions have the same messages under two package names, so one servicer answers both.
grpcio-reflection serves v1alpha only, and from descriptors that Python has stripped of comments.
"""

from collections.abc import AsyncIterator, Iterable
from importlib import resources
from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2 as pb

from recollect_server.rpc.registry import decoder

V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"


def _contract_files() -> list[FileDescriptorProto]:
    data = resources.files("recollect_server.rpc").joinpath("contract.binpb").read_bytes()
    return list(FileDescriptorSet.FromString(data).file)


def _copy(file: Any) -> FileDescriptorProto:
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    return proto


def _as_v1(v1alpha: FileDescriptorProto) -> FileDescriptorProto:
    data = v1alpha.SerializeToString()
    renamed = FileDescriptorProto.FromString(data)
    renamed.name = "grpc/reflection/v1/reflection.proto"
    renamed.package = "grpc.reflection.v1"
    old, new = ".grpc.reflection.v1alpha.", ".grpc.reflection.v1."
    for message in renamed.message_type:
        for field in message.field:
            field.type_name = field.type_name.replace(old, new)
    for method in renamed.service[0].method:
        method.input_type = method.input_type.replace(old, new)
        method.output_type = method.output_type.replace(old, new)
    return renamed


def _symbols(file: FileDescriptorProto) -> Iterable[str]:
    prefix = f"{file.package}." if file.package else ""

    def of_message(message: Any, path: str) -> Iterable[str]:
        name = path + message.name
        yield name
        yield from (f"{name}.{field.name}" for field in message.field)
        yield from (f"{name}.{oneof.name}" for oneof in message.oneof_decl)
        for enum in message.enum_type:
            yield from of_enum(enum, f"{name}.")
        for nested in message.nested_type:
            yield from of_message(nested, f"{name}.")

    def of_enum(enum: Any, path: str) -> Iterable[str]:
        yield path + enum.name
        yield from (path + value.name for value in enum.value)

    for message in file.message_type:
        yield from of_message(message, prefix)
    for enum in file.enum_type:
        yield from of_enum(enum, prefix)
    for service in file.service:
        yield prefix + service.name
        yield from (f"{prefix}{service.name}.{method.name}" for method in service.method)


class Reflection:
    """Answers what the server's services and messages are.

    Args:
        services: full names of the services to list.
    """

    def __init__(self, services: Iterable[str]) -> None:
        v1alpha = _copy(pb.DESCRIPTOR)
        # With the details of errors, so that a client without proto files can read them too.
        others = (health_pb2.DESCRIPTOR, error_details_pb2.DESCRIPTOR)
        files = [*_contract_files(), *map(_copy, others), v1alpha, _as_v1(v1alpha)]
        self._services = sorted({*services, V1, V1ALPHA})
        self._files = {file.name: file for file in files}
        self._file_of_symbol = {symbol: f.name for f in files for symbol in _symbols(f)}

    def handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        """Return gRPC's handlers for both versions."""
        method = grpc.stream_stream_rpc_method_handler(
            self._serve,
            request_deserializer=decoder(pb.ServerReflectionRequest),
            response_serializer=pb.ServerReflectionResponse.SerializeToString,
        )
        return tuple(
            grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
            for name in (V1, V1ALPHA)
        )

    async def _serve(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            if not isinstance(request, pb.ServerReflectionRequest):
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, "not a ServerReflectionRequest"
                )
            yield self._answer(request)

    def _answer(self, request: pb.ServerReflectionRequest) -> pb.ServerReflectionResponse:
        response = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        match request.WhichOneof("message_request"):
            case "list_services":
                for name in self._services:
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                self._add_file(response, request.file_by_filename)
            case "file_containing_symbol":
                name = self._file_of_symbol.get(request.file_containing_symbol, "")
                self._add_file(response, name)
            case "all_extension_numbers_of_type":
                response.all_extension_numbers_response.base_type_name = (
                    request.all_extension_numbers_of_type
                )
            case "file_containing_extension":
                self._not_found(response)
            case _:
                response.error_response.error_code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
                response.error_response.error_message = "message_request: not set"
        return response

    def _add_file(self, response: pb.ServerReflectionResponse, name: str) -> None:
        if name not in self._files:
            self._not_found(response)
            return
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            current = waiting.pop()
            if current in seen:
                continue
            seen.add(current)
            file = self._files[current]
            response.file_descriptor_response.file_descriptor_proto.append(file.SerializeToString())
            waiting.extend(file.dependency)

    @staticmethod
    def _not_found(response: pb.ServerReflectionResponse) -> None:
        response.error_response.error_code = grpc.StatusCode.NOT_FOUND.value[0]
        response.error_response.error_message = "not known to this server"

"""Binds servicers to the contract: every method of every service.

Handlers are composed once, at start, so that a call pays for what an interceptor does and not for
finding out which interceptors there are.
"""

from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any, Protocol

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from recollect_server.rpc.authorization import ROLE_OF, Rule, service_of
from recollect_server.rpc.call import Call, Stream, Unary
from recollect_server.rpc.interceptors import Interceptor, Undecodable


class Servicer(Protocol):
    """Serves one service: a coroutine method per unary RPC, an async generator per stream.

    Methods take (call, request) and have the RPC's name in snake case.
    """

    @property
    def service(self) -> ServiceDescriptor:
        """The contract it serves."""


def snake_case(name: str) -> str:
    """Return `append_messages` for `AppendMessages`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


def full_name(method: MethodDescriptor) -> str:
    """Return `/recollect.v1.MemoryService/Recall`."""
    return f"/{method.containing_service.full_name}/{method.name}"


def rules(services: Iterable[ServiceDescriptor]) -> dict[str, Rule]:
    """Return what each method asks of a credential, by full name.

    Raises:
        KeyError: a method without a rule; no server starts with one.
    """
    return {
        full_name(method): Rule(
            service_of(service.full_name), ROLE_OF[service.full_name][method.name]
        )
        for service in services
        for method in service.methods
    }


def decoder(message: type[Message]) -> Callable[[bytes], Any]:
    """Return a deserialiser that never raises: gRPC would answer UNKNOWN with exception text."""
    parse = message.FromString

    def decode(data: bytes) -> Any:
        try:
            return parse(data)
        except (DecodeError, ValueError):
            return Undecodable()

    return decode


def _compose(
    servicer: Servicer, method: MethodDescriptor, interceptors: tuple[Interceptor, ...]
) -> Any:
    name = full_name(method)
    behaviour = getattr(servicer, snake_case(method.name))
    if not method.server_streaming:
        unary: Unary = behaviour
        for interceptor in reversed(interceptors):
            unary = interceptor.unary(unary)

        async def serve_unary(request: Any, context: Any) -> Any:
            return await unary(Call(name, context), request)

        return serve_unary

    async def send_all(call: Call, request: Any) -> None:
        send = call.send
        async with aclosing(behaviour(call, request)) as answers:
            async for answer in answers:
                await send(answer)

    stream: Stream = send_all
    for interceptor in reversed(interceptors):
        stream = interceptor.stream(stream)

    async def serve_stream(request: Any, context: Any) -> None:
        call = Call(name, context)
        call.send = context.write
        await stream(call, request)

    return serve_stream


def _handler(
    servicer: Servicer, method: MethodDescriptor, interceptors: tuple[Interceptor, ...]
) -> "grpc.RpcMethodHandler[Any, Any]":
    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[method.client_streaming, method.server_streaming]
    handler: grpc.RpcMethodHandler[Any, Any] = make(
        _compose(servicer, method, interceptors),
        request_deserializer=decoder(GetMessageClass(method.input_type)),
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )
    return handler


def generic_handler(
    servicer: Servicer, interceptors: tuple[Interceptor, ...]
) -> grpc.GenericRpcHandler:
    """Return gRPC's handler for all methods of a servicer's service.

    Raises:
        AttributeError: the servicer lacks a method; no server starts with one.
    """
    return grpc.method_handlers_generic_handler(
        servicer.service.full_name,
        {m.name: _handler(servicer, m, interceptors) for m in servicer.service.methods},
    )

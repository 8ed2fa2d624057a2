"""A server that answers every unary call with nothing, at once. It prints its address."""

import asyncio

import grpc


class Silent(grpc.GenericRpcHandler):
    """Has every method."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """See `grpc.GenericRpcHandler`."""
        return grpc.unary_unary_rpc_method_handler(_nothing)


async def _nothing(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
    return b""


async def main() -> None:
    """Serve until the process is ended."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Silent(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


asyncio.run(main())

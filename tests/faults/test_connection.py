"""Clients of a load with the library's repeats and without: the checks go by which is which."""

import grpc
import pytest
from tests.faults.connection import connected

from recollect import errors
from recollect._settings import MOST_TRIES


@pytest.mark.parametrize(("repeats", "tries"), [(True, MOST_TRIES), (False, 1)])
async def test_only_a_client_with_repeats_calls_a_server_again_that_refused(repeats, tries):
    calls = []

    async def refuse(_: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        calls.append(context)
        await context.abort(grpc.StatusCode.UNAVAILABLE, "down")

    class Refusing(grpc.GenericRpcHandler):
        def service(self, _):
            return grpc.unary_unary_rpc_method_handler(refuse)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Refusing()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with connected(f"127.0.0.1:{port}", repeats=repeats) as (client, _):
            with pytest.raises(errors.Unavailable):
                await client.memory.clear_session("s", user_id="ada")
    finally:
        await server.stop(None)
    assert len(calls) == tries

"""What is logged of a failed call to a vector store quotes nothing of the call."""

import asyncio

import grpc
import httpx
import pytest
from chromadb.errors import InvalidDimensionException, NotFoundError
from qdrant_client.http.exceptions import UnexpectedResponse
from structlog.testing import capture_logs

from recollect_server.errors import Unavailable
from recollect_server.memory.feeding import Feeder
from recollect_server.memory.vector_store import RegisteredStore, VectorStoreState
from recollect_server.parts import utc_now
from recollect_server.stores.remote import Calls, named

SECRET = "user-quetzal-31"


class _Rpc(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


def _http() -> httpx.HTTPStatusError:
    asked = httpx.Request("GET", f"http://store/{SECRET}")
    return httpx.HTTPStatusError(SECRET, request=asked, response=httpx.Response(503, request=asked))


FAILURES = [
    (UnexpectedResponse(409, SECRET, SECRET.encode(), httpx.Headers()), "409"),
    (_http(), "503"),
    (_Rpc(SECRET), "UNAVAILABLE"),
    (NotFoundError(SECRET), "404"),
    (InvalidDimensionException(SECRET), "400"),
    (ConnectionRefusedError(111, SECRET), "111"),
    (ValueError(SECRET), None),
]


@pytest.mark.parametrize(("error", "code"), FAILURES, ids=lambda value: type(value).__name__)
def test_a_failure_is_named_by_class_and_code(error, code):
    said = named(error)
    assert said["error"] == type(error).__name__
    assert said.get("code") == code
    assert SECRET not in repr(said)


@pytest.mark.parametrize("blocking", [True, False])
async def test_a_failed_call_is_logged_without_its_text(blocking):
    def fail():
        raise ValueError(SECRET)

    async def fail_later():
        fail()

    calls = Calls("store", blocking=blocking)
    with capture_logs() as lines, pytest.raises(Unavailable) as caught:
        await calls.run(fail if blocking else fail_later)
    calls.close()
    assert [line["error"] for line in lines] == ["ValueError"]
    assert SECRET not in repr(lines) + str(caught.value)


async def test_a_feeder_logs_no_text_of_a_failure():
    filling = VectorStoreState.FILLING
    store = RegisteredStore(1, "store", "qdrant:", "m", 4, True, filling, utc_now())

    class Feeds:
        async def stores(self):
            return (store,)

    logged = asyncio.Event()

    def open_store(*_):
        logged.set()
        raise TimeoutError(SECRET)

    with capture_logs() as lines:
        task = asyncio.create_task(Feeder(Feeds(), open_store, utc_now).run())
        await logged.wait()
        # The feeder logs before it waits again.
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert lines[0]["reason"] == "TIMEOUT"
    assert SECRET not in repr(lines)

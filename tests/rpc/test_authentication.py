"""The authentication interceptor: what ends a running call, and what does not."""

import asyncio
import time

import pytest

from recollect.v1 import memory_pb2
from recollect_server.admin.model import Grants, KeyRole, Service
from recollect_server.errors import PermissionDenied, Reason, Unauthenticated, Unavailable
from recollect_server.rpc import authentication
from recollect_server.rpc.authentication import Authentication, Authenticator
from recollect_server.rpc.authorization import Rule
from recollect_server.rpc.call import Call, Principal

RULES = {
    "/read": Rule(Service.MEMORY, KeyRole.READER),
    "/admin": Rule(Service.ADMIN, KeyRole.ADMIN),
}
REQUEST = memory_pb2.GetSessionRequest(user_id="ada")


class Tokens:
    """One kind of token: `good`, until told otherwise."""

    def __init__(self, **principal):
        fields = {"tenant": "acme", "user_id": "", "grants": Grants(KeyRole.READER), "key_id": "k"}
        self.principal = Principal(**(fields | principal))
        self.error = None
        self.remembered = False
        self.asked = 0
        self.looked = asyncio.Event()

    def accepts(self, token):
        return token == "good"

    def recent(self, token):
        return self.principal if self.remembered else None

    async def verify(self, token):
        self.asked += 1
        self.looked.set()
        if self.error is not None:
            raise self.error
        return self.principal


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(authentication, "RECHECK_SECONDS", 0.01)


def _call(method="/read", header="Bearer good"):
    call = Call(method, None)
    call.metadata = {"authorization": header}
    return call


class Reader:
    """Takes what a stream sends; a slow one once it is told to."""

    def __init__(self, *, slow=False):
        self.sent = asyncio.Event()
        self.takes = asyncio.Event()
        if not slow:
            self.takes.set()

    async def send(self, item):
        self.sent.set()
        await self.takes.wait()


async def _begun(tokens, reader, body):
    """Return the task of a call that has sent its first item."""
    handler = Authentication(Authenticator((tokens,)), RULES).stream(body)
    call = _call()
    call.send = reader.send
    running = asyncio.ensure_future(handler(call, REQUEST))
    async with asyncio.timeout(10):
        await reader.sent.wait()
    return running


async def _for_ever(call, request):
    await call.send("first")
    await asyncio.Event().wait()


async def _asked_again(tokens):
    """Return when the credential was looked at once more."""
    tokens.looked.clear()
    async with asyncio.timeout(10):
        await tokens.looked.wait()


def _invalid():
    return Unauthenticated(Reason.CREDENTIAL_INVALID, "no")


async def test_a_stream_that_waits_ends_with_its_credential_and_is_closed():
    tokens, closed = Tokens(), []

    async def body(call, request):
        try:
            await _for_ever(call, request)
        finally:
            closed.append(True)

    running = await _begun(tokens, Reader(), body)
    await _asked_again(tokens)
    tokens.error = _invalid()
    with pytest.raises(Unauthenticated):
        await running
    assert closed


async def test_a_stream_whose_reader_is_slow_ends_at_its_next_item():
    tokens, reader = Tokens(), Reader(slow=True)
    running = await _begun(tokens, reader, _for_ever)
    tokens.error = _invalid()
    await _asked_again(tokens)
    # The reader was away while the credential ended: what is being sent is not cut off.
    await asyncio.sleep(0.05)
    assert not running.done()
    reader.takes.set()
    with pytest.raises(Unauthenticated):
        await running


async def test_an_outage_ends_no_stream_but_a_time_that_is_over_does():
    tokens = Tokens(expires=time.time() + 0.5)
    running = await _begun(tokens, Reader(), _for_ever)
    tokens.error = Unavailable(Reason.STORE_UNAVAILABLE, "down")
    await _asked_again(tokens)
    assert not running.done()
    with pytest.raises(Unauthenticated, match="expired"):
        await running


async def test_a_stream_that_its_caller_ends_is_cancelled_and_asks_no_more():
    tokens = Tokens()
    running = await _begun(tokens, Reader(), _for_ever)
    await _asked_again(tokens)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await asyncio.sleep(0)
    asked = tokens.asked
    await asyncio.sleep(0.05)
    assert tokens.asked == asked


async def test_an_upload_ends_with_its_credential():
    tokens = Tokens()

    async def requests():
        await asyncio.Event().wait()
        yield REQUEST

    async def upload(call, given):
        async for _ in given:
            pass

    handler = Authentication(Authenticator((tokens,)), RULES).unary(upload)
    running = asyncio.ensure_future(handler(_call(), requests()))
    await _asked_again(tokens)
    tokens.error = _invalid()
    with pytest.raises(Unauthenticated):
        await running


async def test_a_credential_of_the_last_seconds_is_not_verified_again():
    tokens = Tokens()
    tokens.remembered = True

    async def inner(call, request):
        return call.principal

    handler = Authentication(Authenticator((tokens,)), RULES).unary(inner)
    for _ in range(3):
        assert await handler(_call(), REQUEST) == tokens.principal
    assert tokens.asked == 0
    with pytest.raises(PermissionDenied):
        await handler(_call("/admin"), REQUEST)


@pytest.mark.parametrize(
    "header", ["good", "bearer", "Bearer", "Bearer  good", "Basic good", "Bearer other", b"\xff"]
)
async def test_a_header_that_is_no_token_of_a_known_kind_is_refused(header):
    async def inner(call, request):
        raise AssertionError("called")

    handler = Authentication(Authenticator((Tokens(),)), RULES).unary(inner)
    with pytest.raises(Unauthenticated) as caught:
        await handler(_call(header=header), REQUEST)
    assert caught.value.reason is Reason.CREDENTIAL_INVALID


async def test_the_scheme_s_case_does_not_matter():
    async def inner(call, request):
        return "done"

    handler = Authentication(Authenticator((Tokens(),)), RULES).unary(inner)
    assert await handler(_call(header="bEARER good"), REQUEST) == "done"


async def test_an_administrator_of_one_user_does_not_exist():
    tokens = Tokens(user_id="ada", grants=Grants(KeyRole.ADMIN))

    async def inner(call, request):
        raise AssertionError("called")

    handler = Authentication(Authenticator((tokens,)), RULES).unary(inner)
    with pytest.raises(PermissionDenied) as caught:
        await handler(_call("/admin"), REQUEST)
    assert caught.value.reason is Reason.ROLE_REQUIRED

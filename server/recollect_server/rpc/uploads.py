"""Requests of a client's stream: each is checked as a unary call's request is."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

from google.protobuf.message import Message

from recollect_server.rpc.call import Call
from recollect_server.rpc.interceptors import Decoding, Tenancy, Validation

M = TypeVar("M", bound=Message)


async def uploaded(call: Call, requests: AsyncIterator[M]) -> AsyncGenerator[M]:
    """Yield the requests of a stream.

    Raises:
        InvalidArgument: one does not decode, or is against the contract's rules.
        PermissionDenied: OTHER_USER.
    """
    checks = Decoding(), Tenancy(), Validation()
    async for request in requests:
        for check in checks:
            check.check(call, request)
        yield request

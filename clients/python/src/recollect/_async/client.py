"""The client."""

from types import TracebackType
from typing import Self

import grpc

from recollect._async.admin import AsyncAdmin
from recollect._async.cache import AsyncCache
from recollect._async.chat import AsyncChat
from recollect._async.memory import AsyncMemory
from recollect._async.transport import AsyncTransport
from recollect._settings import DEFAULT_ADDRESS, DEFAULT_TIMEOUT, Settings, environment


class AsyncRecollect:
    """A connection to a Recollect server. Use it in `async with`, or call `close`.

    Calls that find the server unavailable are repeated up to four times with growing pauses, unless
    a repeat could do something twice; most writes carry a request id, so a repeat is done once.

    Args:
        address: HOST:PORT or unix:PATH.
        api_key: an API key or another token, sent with every call.
        tls: encrypt; needed for an API key that leaves this machine.
        root_certificates: PEM of the authorities to trust. Default: the system's.
        client_certificate: PEM of a certificate chain and of its key, for a server that knows its
            clients by theirs.
        insecure: send an API key in plain text, on a network that is trusted.
        timeout: seconds a call may take, unless it says otherwise. Chat has 300.
        user_id: whose memory, unless a call says otherwise.
        channel: a channel to use instead of a new one; it is not closed.

    Attributes:
        memory: sessions, messages, facts, recall.
        cache: the answer cache.
        chat: chat with memory and cache.
        admin: keys and the server itself.

    Raises:
        ValueError: an API key would cross the network in plain text, or a certificate is given
            without TLS.
    """

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        api_key: str | None = None,
        tls: bool = False,
        root_certificates: bytes | None = None,
        client_certificate: tuple[bytes, bytes] | None = None,
        insecure: bool = False,
        timeout: float = DEFAULT_TIMEOUT,
        user_id: str | None = None,
        channel: grpc.aio.Channel | None = None,
    ) -> None:
        settings = Settings(
            address,
            api_key,
            tls,
            root_certificates,
            client_certificate,
            insecure,
            timeout,
            user_id,
        )
        self._transport = AsyncTransport(settings, channel)
        self.memory = AsyncMemory(self._transport)
        self.cache = AsyncCache(self._transport)
        self.chat = AsyncChat(self._transport)
        self.admin = AsyncAdmin(self._transport)

    @classmethod
    def from_env(cls) -> Self:
        """Make a client from RECOLLECT_ADDRESS, _API_KEY, _USER_ID and _TLS."""
        return cls(**environment())

    async def close(self) -> None:
        """Close the connection."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

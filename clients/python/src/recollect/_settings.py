"""How a client connects: address, credentials, retries."""

import ipaddress
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from recollect.errors import Cancelled, Closed, DeadlineExceeded, RecollectError, Unavailable

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 30.0
CHAT_TIMEOUT = 300.0

MOST_TRIES = 5
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 1.0
RESUME_SECONDS = 60.0
"""How long a chat stream without a deadline, once broken, is resumed without an event."""

OPTIONS: list[tuple[str, Any]] = [
    # Its own repeats can leave a call without an end, deadline or not
    # (https://github.com/grpc/grpc/issues/41036); `Tries` has ours.
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", -1),
    # gRPC's own, 1 s growing to 2 min, leaves a server that is back unused for long. The longest
    # is less than the pauses of a call's repeats together, so that they do not all fall into it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # How long a connection may take to be made, for all its name: a distant server needs a while.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client was made with; see `Recollect`."""

    address: str
    api_key: str | None
    tls: bool
    root_certificates: bytes | None
    client_certificate: tuple[bytes, bytes] | None
    insecure: bool
    timeout: float
    user_id: str | None

    def __post_init__(self) -> None:
        if self.api_key and not (self.tls or self.insecure or is_local(self.address)):
            raise ValueError(
                f"an API key would cross the network to {self.address} in plain text: "
                "use tls=True, or insecure=True if the network is trusted"
            )
        if self.client_certificate and not self.tls:
            raise ValueError("client_certificate: is shown to a server of TLS alone: use tls=True")

    def __repr__(self) -> str:
        return f"Settings(address={self.address!r}, tls={self.tls}, user_id={self.user_id!r})"

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """TLS, or None for plain text."""
        if not self.tls:
            return None
        chain, key = self.client_certificate or (None, None)
        return grpc.ssl_channel_credentials(self.root_certificates, key, chain)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()

    def user(self, user_id: str | None) -> str:
        """Return the user of a call: its own, else the client's.

        Raises:
            ValueError: neither is set.
        """
        found = self.user_id if user_id is None else user_id
        if found is None:
            raise ValueError("user_id: give it to the call, or to the client as its default")
        return found


def is_local(address: str) -> bool:
    """Whether calls to the address stay on this machine."""
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reconnect_pauses() -> Iterator[float]:
    """Yield the seconds to wait before each new try of a stream that broke."""
    pause = FIRST_PAUSE
    while True:
        # Not a secret: many clients of one server must not come back at the same moment.
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        pause = min(2 * pause, LONGEST_PAUSE)


def environment() -> dict[str, Any]:
    """Return a client's arguments from RECOLLECT_ADDRESS, _API_KEY, _USER_ID and _TLS."""
    found: dict[str, Any] = {
        "address": os.environ.get("RECOLLECT_ADDRESS"),
        "api_key": os.environ.get("RECOLLECT_API_KEY"),
        "user_id": os.environ.get("RECOLLECT_USER_ID"),
        "tls": os.environ.get("RECOLLECT_TLS", "").lower() in ("1", "true", "yes") or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def unavailable(error: RecollectError) -> bool:
    """Whether another server, or the same later, may do what this one did not."""
    if isinstance(error, Cancelled):
        # So ends a call that a server, as it shuts down, has not begun.
        return not error.reason and not isinstance(error, Closed)
    return isinstance(error, Unavailable)


class Tries:
    """The tries of one call, or to go on with a stream that broke, within its time.

    Every call may be repeated but an import: a write either carries a request id or comes to the
    same when repeated.

    Args:
        timeout: seconds for all of them, None for no bound.
    """

    def __init__(self, timeout: float | None) -> None:
        self._ends = None if timeout is None else time.monotonic() + timeout
        self.reset()

    def reset(self) -> None:
        """Count anew: something came."""
        self._pauses = reconnect_pauses()
        self._made = 0
        self._broke: float | None = None

    @property
    def left(self) -> float | None:
        """Seconds for the next one.

        Raises:
            DeadlineExceeded: there are none.
        """
        if self._ends is None:
            return None
        left = self._ends - time.monotonic()
        if left <= 0:
            late = "the call took longer than its timeout"
            raise DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, late)
        return left

    def pause_after(self, error: RecollectError, patience: float | None = None) -> float:
        """Return the seconds to wait before the next one; raise the error if there is none.

        Args:
            patience: seconds from the first break on, in which a stream without a timeout goes on;
                one with a timeout goes on until then. None counts the tries instead.
        """
        now = time.monotonic()
        if patience is None:
            self._made += 1
            given_up = self._made == MOST_TRIES
        else:
            self._made = 0
            self._broke = self._broke or now
            given_up = self._ends is None and now >= self._broke + patience
        if given_up or not unavailable(error):
            raise error from None
        pause = next(self._pauses)
        return pause if self._ends is None else max(0.0, min(pause, self._ends - now))

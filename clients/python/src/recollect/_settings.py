"""How a client connects: address, credentials, retries."""

import ipaddress
import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc

DEFAULT_ADDRESS = "127.0.0.1:50051"
DEFAULT_TIMEOUT = 30.0
CHAT_TIMEOUT = 300.0

RESUME_KEY = "x-resume-token"
MOST_TRIES = 5
FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0

# A repeat of these could do something twice, or fail because the first one worked. Watch repeats
# itself: it knows where to go on.
ONCE = {
    "MemoryService": (
        "UpdateSession",
        "ClearSession",
        "DeleteSession",
        "UpdateFact",
        "ForgetFact",
        "Watch",
    ),
    "AdminService": ("CreateApiKey", "ImportUser", "Reindex"),
}

# The rest are reads, writes that carry a request id, and writes that change nothing twice.
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "2s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            },
            {
                "name": [
                    {"service": f"recollect.v1.{service}", "method": method}
                    for service, methods in ONCE.items()
                    for method in methods
                ]
            },
        ]
    }
)

OPTIONS: list[tuple[str, Any]] = [
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.enable_retries", 1),
    # What gRPC keeps of a request to repeat it; its own 256 KiB would leave out large appends.
    ("grpc.per_rpc_retry_buffer_size", 8 * 1024 * 1024),
    ("grpc.max_receive_message_length", -1),
    # gRPC's own, 1 s growing to 2 min, leaves a server that is back unused for long. The longest
    # is less than the pauses of a call's repeats together, so that they do not all fall into it.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
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
        yield pause * random.uniform(0.5, 1.0)  # noqa: S311
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

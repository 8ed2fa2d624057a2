"""What a store's URL says: which library, how to connect, as whom, to one server or a cluster."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit


class Library(Enum):
    """The client library a scheme stands for."""

    REDIS = "redis"
    VALKEY = "valkey"


class Transport(Enum):
    """How bytes get to the server."""

    TCP = "tcp"
    TLS = "tls"
    UNIX = "unix"


SCHEMES: Mapping[str, tuple[Library, Transport]] = {
    "redis": (Library.REDIS, Transport.TCP),
    "rediss": (Library.REDIS, Transport.TLS),
    "unix": (Library.REDIS, Transport.UNIX),
    "valkey": (Library.VALKEY, Transport.TCP),
    "valkeys": (Library.VALKEY, Transport.TLS),
    "valkey+unix": (Library.VALKEY, Transport.UNIX),
}

DEFAULT_PORT = 6379

_TLS_FILES = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_TLS_CHOICES = ("ssl_cert_reqs", "ssl_check_hostname")
_CHOICES: Mapping[str, Mapping[str, Any]] = {
    "cluster": {"true": True, "false": False},
    "ssl_cert_reqs": {"required": "required", "none": "none"},
    "ssl_check_hostname": {"true": True, "false": False},
}


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL.

    Attributes:
        address: the URL without credentials and options, fit for logs.
        arguments: keyword arguments of the library's connection; may hold the password.
        cluster: the address is that of a cluster's node.
    """

    library: Library
    transport: Transport
    address: str
    arguments: Mapping[str, Any] = field(repr=False)
    cluster: bool = False

    def label(self, node: tuple[str, int]) -> str:
        """Return the address of another node, given its host and port, as it is to be logged."""
        return _address(self.address.partition("://")[0], *node, self.arguments["db"])


def parse_target(url: str) -> Target:
    """Parse a URL; the accepted forms are listed at `connect`.

    Raises:
        ValueError: what is wrong and what is allowed, never a piece of the URL that could be
            a credential.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        raise ValueError(f"a store's URL must start with {_one_of(f'{s}://' for s in SCHEMES)}")
    library, transport = SCHEMES[scheme.lower()]
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError(_UNREADABLE) from None
    if "#" in url:
        raise ValueError(_UNREADABLE)

    arguments = _options(parts, transport)
    if parts.username:
        arguments["username"] = unquote(parts.username)
    if parts.password:
        arguments["password"] = unquote(parts.password)

    if transport is Transport.UNIX:
        if host or not parts.path.startswith("/"):
            raise ValueError(f"a socket's path must be absolute, as in {scheme}:///run/store.sock")
        arguments["path"] = unquote(parts.path)
        return Target(library, transport, f"{scheme}://{parts.path}", arguments)

    if not host:
        raise ValueError(f"the host is missing; write {scheme}://HOST:PORT")
    if parts.path.strip("/"):
        arguments["db"] = _database(parts.path.strip("/"))
    cluster = arguments.pop("cluster", False)
    if cluster and arguments["db"] != 0:
        raise ValueError("a cluster has no database but 0; leave the number out")
    arguments |= {"host": unquote(host), "port": port or DEFAULT_PORT}
    address = _address(scheme, host, arguments["port"], arguments["db"])
    return Target(library, transport, address, arguments, cluster)


def _address(scheme: str, host: str, port: int, db: int) -> str:
    return f"{scheme}://[{host}]:{port}/{db}" if ":" in host else f"{scheme}://{host}:{port}/{db}"


_UNREADABLE = (
    "the store's URL cannot be read; special characters in user name and password must be "
    "percent-encoded"
)


def _options(parts: SplitResult, transport: Transport) -> dict[str, Any]:
    arguments: dict[str, Any] = {"db": 0}
    allowed = ["db"] if transport is Transport.UNIX else ["db", "cluster"]
    if transport is Transport.TLS:
        allowed += [*_TLS_FILES, *_TLS_CHOICES]
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in allowed:
            raise ValueError(f"an option of a {parts.scheme}:// URL must be {_one_of(allowed)}")
        if name == "db":
            arguments["db"] = _database(value)
        elif name in _CHOICES:
            if value not in _CHOICES[name]:
                raise ValueError(f"{name} must be {_one_of(_CHOICES[name])}")
            arguments[name] = _CHOICES[name][value]
        else:
            arguments[name] = value
    if transport is Transport.TLS:
        # The two libraries' defaults differ; names are checked wherever certificates are.
        arguments.setdefault("ssl_check_hostname", arguments.get("ssl_cert_reqs") != "none")
    return arguments


def _database(text: str) -> int:
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("the database must be a number, as in /0 or ?db=0")
    return int(text)


def _one_of(names: Iterable[str]) -> str:
    *rest, last = list(names)
    return f"{', '.join(rest)} or {last}" if rest else last

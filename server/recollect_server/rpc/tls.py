"""TLS: certificates that are read again when their files change, and clients known by theirs."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from recollect_server.files import Stamp, stamp
from recollect_server.rpc.call import Call, Principal

log = structlog.get_logger("recollect.tls")

T = TypeVar("T")

REMEMBERED_CERTIFICATES = 1_000


class TlsFilesError(Exception):
    """The files are missing, are not PEM, or do not belong together."""


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The server's certificate chain and key, and authorities of clients' certificates."""

    certificate: Path
    key: Path
    client_authorities: Path | None = None

    def read(self) -> grpc.ServerCertificateConfiguration:
        """Return what the files hold. Raises `TlsFilesError`."""
        chain, certificates = _read(self.certificate, x509.load_pem_x509_certificates)
        key, own = _read(self.key, lambda data: load_pem_private_key(data, password=None))
        authorities = None
        if self.client_authorities is not None:
            authorities, _ = _read(self.client_authorities, x509.load_pem_x509_certificates)
        if certificates[0].public_key() != own.public_key():
            raise TlsFilesError(f"{self.key} is not the key of {self.certificate}")
        return grpc.ssl_server_certificate_configuration([(key, chain)], authorities)

    def stamp(self) -> Stamp:
        """Return what changes when a file is written or replaced. Raises `OSError`."""
        return stamp(*filter(None, (self.certificate, self.key, self.client_authorities)))


def _read(path: Path, load: Callable[[bytes], T]) -> tuple[bytes, T]:
    """Return what a file holds, as bytes and loaded. Raises `TlsFilesError`."""
    try:
        data = path.read_bytes()
        return data, load(data)
    except OSError as error:
        raise TlsFilesError(f"TLS files: {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        # What the library says is of PEM's framing, or that a password would be needed.
        raise TlsFilesError(f"TLS files: {path} holds none in PEM that can be read") from error


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials that look at each handshake whether the files changed.

    Files that do not fit together, as while they are being replaced, change nothing. With
    authorities every client must show a certificate of theirs.

    Raises:
        TlsFilesError, OSError: they do not fit now, or are not there.
    """
    used = files.stamp()
    first = files.read()

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        try:
            found = files.stamp()
            if found == used:
                return None
            read = files.read()
        except (OSError, TlsFilesError) as error:
            log.warning("the TLS files do not fit: the old ones stay in use", error=str(error))
            return None
        used = found
        log.info("the TLS files were read again")
        return read

    return grpc.dynamic_ssl_server_credentials(
        first,
        changed,  # type: ignore[arg-type] # None means that nothing changed
        require_client_authentication=files.client_authorities is not None,
    )


class CertificatePeers:
    """Knows clients by a name in their certificate: a subject alternative name, else the CN.

    Args:
        principals: who has which name.
    """

    def __init__(self, principals: Mapping[str, Principal]) -> None:
        self._principals = principals
        self._known: dict[bytes, Principal | None] = {}

    def identify(self, call: Call) -> Principal | None:
        """See `PeerVerifier`."""
        found = call.context.auth_context()
        pem = next(iter(found.get("x509_pem_cert", ())), b"")
        if pem not in self._known:
            if len(self._known) >= REMEMBERED_CERTIFICATES:
                del self._known[next(iter(self._known))]
            names = found.get("x509_subject_alternative_name") or found.get("x509_common_name", ())
            self._known[pem] = self._of(pem, [name.decode(errors="replace") for name in names])
        principal = self._known[pem]
        if principal is None or principal.expires is None or time.time() >= principal.expires:
            return None
        return principal

    def _of(self, pem: bytes, names: list[str]) -> Principal | None:
        for name in names:
            if name in self._principals:
                expires = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
                return replace(self._principals[name], expires=expires)
        return None

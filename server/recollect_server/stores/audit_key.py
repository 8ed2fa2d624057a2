"""The Ed25519 key that signs audit chains: given, or made once in the data directory."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from recollect_server.ids import uuid7

FILE = "audit-key.pem"
_KEY_ID_DIGITS = 16


class AuditKeyError(ValueError):
    """There is no usable key; the message says why."""


class AuditKey:
    """Implements `admin.audit_chain.Signer`."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.key_id = _key_id(private.public_key())

    def sign(self, data: bytes) -> bytes:
        """See `Signer`."""
        return self._private.sign(data)

    @property
    def public_pem(self) -> str:
        """The public key, to be kept where the private one is not."""
        public = self._private.public_key()
        return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @classmethod
    def from_pem(cls, pem: str) -> Self:
        """Read a private key in PKCS #8, unencrypted.

        Raises:
            AuditKeyError: it is none, or of another kind.
        """
        try:
            private = load_pem_private_key(pem.encode(), None)
        except (ValueError, TypeError):
            raise AuditKeyError("the audit key is not an unencrypted private key in PEM") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise AuditKeyError("the audit key must be an Ed25519 key")
        return cls(private)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return the folder's key, making one where there is none; its owner alone may read it.

        Raises:
            AuditKeyError: the file holds something else.
            OSError: the folder cannot be written.
        """
        path = folder / FILE
        if not path.exists():
            folder.mkdir(0o700, parents=True, exist_ok=True)
            _make(path)
        return cls.from_pem(path.read_text())


class PublicKeys:
    """Implements `admin.audit_chain.Verifier`."""

    def __init__(self, pems: Iterable[str]) -> None:
        self._keys: dict[str, Ed25519PublicKey] = {}
        for pem in pems:
            try:
                public = load_pem_public_key(pem.encode())
            except (ValueError, TypeError):
                raise AuditKeyError("not a public key in PEM") from None
            if not isinstance(public, Ed25519PublicKey):
                raise AuditKeyError("the public key must be an Ed25519 key")
            self._keys[_key_id(public)] = public

    def knows(self, key_id: str) -> bool:
        """See `Verifier`."""
        return key_id in self._keys

    def verify(self, key_id: str, signature: bytes, data: bytes) -> bool:
        """See `Verifier`."""
        try:
            self._keys[key_id].verify(signature, data)
        except (InvalidSignature, KeyError):
            return False
        return True


def _key_id(public: Ed25519PublicKey) -> str:
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:_KEY_ID_DIGITS]


def _make(path: Path) -> None:
    """Make the file whole or not at all; of processes that do it at once, one wins."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    partial = path.with_name(f"{path.name}.{uuid7()}")
    try:
        descriptor = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(descriptor, pem)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.link(partial, path)
    except FileExistsError:
        pass
    finally:
        partial.unlink(missing_ok=True)

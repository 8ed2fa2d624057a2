"""Authorities and certificates, made for a test."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


class Authority:
    """A certificate authority.

    Attributes:
        pem: its own certificate.
    """

    def __init__(self, name: str = "Test authority") -> None:
        self._name = _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = (
            self._builder(self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def _builder(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        lifetime: timedelta = timedelta(days=1),
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + lifetime)
        )

    def issue(
        self, common_name: str, *names: str, lifetime: timedelta = timedelta(days=1)
    ) -> tuple[bytes, bytes]:
        """Return a certificate and its key, as PEM.

        Args:
            names: subject alternative names: URIs, addresses or DNS names.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(_name(common_name), key.public_key(), lifetime)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
            )
        certificate = builder.sign(self._key, hashes.SHA256())
        return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


def _general(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    if name.replace(".", "").isdigit():
        return x509.IPAddress(ip_address(name))
    return x509.DNSName(name)


def write_pair(folder: Path, pair: tuple[bytes, bytes]) -> tuple[Path, Path]:
    """Write a certificate and its key into a folder, in place of those there."""
    paths = folder / "tls.crt", folder / "tls.key"
    for path, pem in zip(paths, pair, strict=True):
        temporary = path.with_suffix(".new")
        temporary.write_bytes(pem)
        temporary.replace(path)
    return paths


def write_localhost(folder: Path) -> tuple[Path, Path, Path]:
    """Write a certificate of localhost, its key, and the authority that clients must trust."""
    authority = Authority()
    names = authority.issue("localhost", "localhost", "127.0.0.1")
    trusted = folder / "ca.crt"
    trusted.write_bytes(authority.pem)
    return *write_pair(folder, names), trusted

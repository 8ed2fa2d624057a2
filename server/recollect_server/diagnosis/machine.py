"""Checks of this machine: folders, disk, certificates."""

import shutil
import ssl
import stat
import tempfile
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from recollect_server.admin.limits_file import LimitsFile, LimitsFileError
from recollect_server.config import MIB, Settings, unknown_secrets, unknown_variables
from recollect_server.diagnosis.finding import Finding, fail, ok, warn

LEAST_BYTES = 256 * MIB
LOW_BYTES = 2048 * MIB
EXPIRY_NOTICE = timedelta(days=30)


def check_environment(environment: Iterable[str]) -> Iterator[Finding]:
    """Look whether a variable is meant for a setting and is none, by its name."""
    for name in unknown_variables(environment):
        yield warn(
            "environment",
            f"{name} is no setting and does nothing",
            "spell it as in `recollect serve --help`, or take it away",
        )


def check_secrets(settings: Settings) -> Iterator[Finding]:
    """Look whether a file is meant for a setting and is none, by its name."""
    for name in unknown_secrets(settings.secrets_dir):
        yield warn(
            "secrets",
            f"{name} in {settings.secrets_dir} is no setting and does nothing",
            "name it like the setting's environment variable, or take it away",
        )


def check_folder(settings: Settings) -> Iterator[Finding]:
    """Look whether the data directory can be written, has room, and is read by nobody else."""
    folder = settings.data_dir.absolute()
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"x")
    except OSError as error:
        yield fail(
            "data folder",
            f"{folder} cannot be written: {error.strerror}",
            "give its owner this user, or name another folder with --data-dir",
        )
        return
    yield ok("data folder", f"{folder} can be written")
    if stat.S_IMODE(folder.stat().st_mode) & 0o007 and not settings.uses_postgres:
        yield warn(
            "permissions",
            f"{folder} is open to other users of this machine",
            f"chmod o-rwx {folder}",
        )
    free = shutil.disk_usage(folder).free
    text = f"{free // MIB} MiB free in {folder}"
    if free < LEAST_BYTES:
        yield fail("disk", text, "make room: a full disk refuses every write")
    elif free < LOW_BYTES:
        yield warn("disk", text, "make room before it is full: a full disk refuses every write")
    else:
        yield ok("disk", text)


def check_tls(settings: Settings, now: datetime) -> Iterator[Finding]:
    """Look whether the certificates hold, for how long, and whether the key is theirs."""
    certificate, key = settings.tls_cert, settings.tls_key
    if certificate is None or key is None:
        return
    named = ", ".join(map(str, filter(None, (certificate, key, settings.tls_client_ca))))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
        chain = x509.load_pem_x509_certificates(certificate.read_bytes())
        if settings.tls_client_ca is not None:
            x509.load_pem_x509_certificates(settings.tls_client_ca.read_bytes())
    except (OSError, ValueError) as error:
        # An SSLError is an OSError; its reason says whether the two belong together.
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None)
        yield fail(
            "tls",
            f"{named} cannot be used: {reason or 'no PEM certificate'}",
            "name PEM files: a chain, its own key and, for clients, authorities",
        )
        return
    begins = max(each.not_valid_before_utc for each in chain)
    ends = min(each.not_valid_after_utc for each in chain)
    if ends <= now:
        yield fail("tls", f"{certificate} expired at {ends:%Y-%m-%d %H:%M} UTC", "renew it")
    elif begins > now:
        yield fail(
            "tls",
            f"{certificate} holds from {begins:%Y-%m-%d %H:%M} UTC on",
            "use one that holds now, or set this machine's clock right",
        )
    elif ends - now < EXPIRY_NOTICE:
        yield warn("tls", f"{certificate} expires at {ends:%Y-%m-%d %H:%M} UTC", "renew it soon")
    else:
        yield ok("tls", f"{certificate} holds until {ends:%Y-%m-%d}")
    if _is_open(key):
        yield warn("tls", f"{key} can be read by other users", f"chmod o-rwx {key}")


def check_limits(settings: Settings) -> Iterator[Finding]:
    """Look whether the file of limits holds some."""
    if settings.limits_file is None:
        return
    try:
        limits = LimitsFile(settings.limits_file).read()
    except LimitsFileError as error:
        yield fail("limits", str(error), "docs/quotas.md says how limits are written")
        return
    yield ok("limits", f"{settings.limits_file} has limits for {len(limits.own)} single tenants")


def _is_open(path: Path) -> bool:
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o004)

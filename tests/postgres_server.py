"""A real PostgreSQL for tests: the server of the package pgserver, in a folder of its own."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import psycopg
from tests.harness import clean_environment

START_SECONDS = 30.0
USER = "nobody"
"""PostgreSQL refuses to run as root, so there it runs as this user."""

# Not subprocess's own `user`: it forks, and gRPC's handlers may hang in a fork while calls run.
_AS_USER = (
    "import os, sys; uid, gid, *command = sys.argv[1:]; os.setgroups([]); os.setgid(int(gid)); "
    "os.setuid(int(uid)); os.execv(command[0], command)"
)


def _packages() -> Path:
    """Return the folder that holds pgserver's programs and libraries."""
    spec = importlib.util.find_spec("pgserver")
    assert spec is not None, "the package pgserver is in the group dev"
    assert spec.origin is not None
    return Path(spec.origin).parent.parent


class PostgresServer:
    """A server that listens on a Unix socket only."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="recollect-postgres-"))
        self.data = self.folder / "data"
        self._program = self.folder / "pgserver" / "pginstall"
        # Its place in the virtual environment may be out of another user's reach.
        for part in ("pgserver/pginstall", "pgserver.libs"):
            shutil.copytree(_packages() / part, self.folder / part)
        self.folder.chmod(0o755)
        self.data.mkdir()
        self.as_user: list[str] = []
        if os.getuid() == 0:
            entry = pwd.getpwnam(USER)
            identity = [str(entry.pw_uid), str(entry.pw_gid)]
            self.as_user = [sys.executable, "-c", _AS_USER, *identity]
            for path in (self.folder, self.data):
                os.chown(path, entry.pw_uid, entry.pw_gid)
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def programs(self) -> Path:
        """The folder of PostgreSQL's programs."""
        return self._program / "bin"

    def give(self, *paths: Path) -> None:
        """Let PostgreSQL's user own files."""
        if self.as_user:
            for path in paths:
                shutil.chown(path, USER)

    def start(self) -> Self:
        """Start, also again after `kill`, and return once it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.as_user,
                    str(self._program / "bin" / "postgres"),
                    *("-D", str(self.data), "-k", str(self.folder), "-h", ""),
                    *("-c", "max_connections=200", "-c", "shared_buffers=64MB"),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=clean_environment(),
            )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres")).close()
                return self
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def create(self, template: str = "template1") -> str:
        """Make a database and return its URL."""
        name = f"t{uuid.uuid4().hex[:12]}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def backends(self, database_url: str) -> list[int]:
        """Return the process ids of a database's connections."""
        name = urlsplit(database_url).path.removeprefix("/")
        with psycopg.connect(self.url("postgres")) as connection:
            rows = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s", (name,)
            ).fetchall()
        return [row[0] for row in rows]

    def kill(self) -> None:
        """End it as a crash does: at once, with all its backends."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(START_SECONDS)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [*self.as_user, str(self._program / "bin" / program), *arguments],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=clean_environment(),
        )
        assert done.returncode == 0, done.stderr

"""Virtual environments of the peers, made by uv from PyPI, under `.tools/peers`."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
UV = ROOT / ".tools/bin/uv"
FOLDER = ROOT / ".tools/peers"


class NotHereError(RuntimeError):
    """The peer cannot be had on this machine; the message says why."""


@dataclass(frozen=True, slots=True)
class Environment:
    """What to install.

    Attributes:
        name: of the folder.
        python: the version it needs, as in "3.12".
        packages: as uv takes them.
    """

    name: str
    python: str
    packages: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """The environment's folder."""
        return FOLDER / self.name

    def program(self, name: str) -> Path:
        """Return a program of the environment."""
        return self.folder / "bin" / name

    def make(self) -> None:
        """Install it, once.

        Raises:
            NotHereError: there is no such Python, or the packages cannot be installed.
        """
        made = self.folder / ".made"
        if made.exists() and made.read_text() == repr(self):
            return
        python = _python(self.python)
        for command in (
            ("venv", "--quiet", "--clear", "--python", python, self.folder),
            ("pip", "install", "--quiet", "--python", self.program("python"), *self.packages),
        ):
            done = subprocess.run(  # noqa: S603 - the commands are written above
                [UV, *command], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise NotHereError(f"{self.name}: {done.stderr.strip()}")
        made.write_text(repr(self))

    def version(self, package: str) -> str:
        """Return the installed version of a package."""
        code = f"import importlib.metadata as m; print(m.version({package!r}))"
        return subprocess.run(  # noqa: S603 - as above
            [self.program("python"), "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()


def _python(version: str) -> str:
    """Return a Python of this version; pyenv's need not be on the path."""
    for found in sorted(Path.home().glob(f".pyenv/versions/{version}*/bin/python")):
        return str(found)
    if (found_on_path := shutil.which(f"python{version}")) is not None:
        return found_on_path
    raise NotHereError(f"Python {version} is not installed")

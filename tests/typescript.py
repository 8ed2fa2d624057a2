"""The TypeScript client as its suites use it: built from what is there."""

import fcntl
import os
import subprocess
from functools import cache
from pathlib import Path

import pytest
from tests.harness import ROOT, toolchain

CLIENT = ROOT / "clients/typescript"


def node() -> str:
    """Return the path of node, or skip; in CI it must be there."""
    return toolchain("node")


@cache
def built() -> Path:
    """Build the client with its examples and tests, and return the folder they are in.

    Skips without its packages; in CI they must be there.
    """
    npm = toolchain("npm")
    if not (CLIENT / "node_modules").exists():
        if os.environ.get("CI") == "true":
            pytest.fail("`make tools` must install the TypeScript client's packages in CI")
        pytest.skip("needs the TypeScript client's packages: `make tools` with npm")
    # Suites may run side by side. What is current is not written again.
    lock = ROOT / ".tools/typescript.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        subprocess.run([npm, "run", "--silent", "build"], cwd=CLIENT, check=True)
    return CLIENT / "dist"


def program(code: str, folder: Path) -> list[str]:
    """Make a package that uses the client, compile it, and return how to run it in that folder."""
    built()
    packages = folder / "node_modules"
    (packages / "@recollect-ai").mkdir(parents=True)
    (packages / "@recollect-ai/client").symlink_to(CLIENT)
    for scope in ("@types", "@connectrpc"):
        (packages / scope).symlink_to(CLIENT / "node_modules" / scope)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "main.ts").write_text(code)
    compiler = str(CLIENT / "node_modules/typescript/bin/tsc")
    options = ("--strict", "--target", "es2022", "--lib", "esnext,dom", "--types", "node")
    compiled = subprocess.run(
        [node(), compiler, *options, "--module", "nodenext", "main.ts"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert compiled.returncode == 0, compiled.stdout
    return [node(), "main.js"]

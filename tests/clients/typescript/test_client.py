"""The TypeScript client: its own tests, its package, and its example against a server."""

import json
import subprocess
import tarfile

from tests.clients.example import chats_and_remembers
from tests.harness import toolchain
from tests.typescript import CLIENT, built, node


def _run(*command: str, **more) -> str:
    done = subprocess.run(
        command, cwd=CLIENT, capture_output=True, text=True, timeout=600, check=False, **more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass():
    sources = sorted((CLIENT / "test").glob("*.test.ts"))
    tests = [str(built() / "test" / f"{source.stem}.js") for source in sources]
    told = _run(node(), "--test", "--test-reporter=tap", *tests)
    assert "# fail 0" in told
    assert "# pass 0" not in told


def test_its_example_chats_and_remembers(server):
    chats_and_remembers(server, _run, node(), str(built() / "examples/chat/chat.js"))


def test_its_package_has_what_its_exports_name_and_no_tests(tmp_path):
    built()
    _run(toolchain("npm"), "pack", "--ignore-scripts", f"--pack-destination={tmp_path}")
    (packed,) = tmp_path.glob("*.tgz")
    with tarfile.open(packed) as archive:
        names = {name.removeprefix("package/") for name in archive.getnames()}
    metadata = json.loads((CLIENT / "package.json").read_text())
    exported = {f for kinds in metadata["exports"].values() for f in kinds.values()}
    assert {name.removeprefix("./") for name in exported} <= names
    assert {"README.md", "LICENSE", "package.json"} <= names
    assert not [name for name in names if "test" in name or "conformance" in name]

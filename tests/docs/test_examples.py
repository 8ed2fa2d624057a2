"""The documents' examples run as they stand, but for the port: tests may run side by side."""

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness import RunningServer, grpcurl_path, toolchain
from tests.java import START_QUICKLY, classpath
from tests.typescript import program as typescript_program

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (
    "README.md",
    "clients/python/README.md",
    "clients/go/README.md",
    "clients/java/README.md",
    "clients/rust/README.md",
    "clients/typescript/README.md",
)
ADDRESS = "127.0.0.1:50051"
_BLOCK = re.compile(r"<!-- run -->\n```(\w+)\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Example:
    """A block of code that a document says can be run."""

    document: str
    line: int
    language: str
    code: str


def examples(document: str) -> list[Example]:
    """Return the marked blocks of a document, in order."""
    text = (ROOT / document).read_text()
    return [
        Example(document, text.count("\n", 0, match.start(2)) + 1, match[1], match[2])
        for match in _BLOCK.finditer(text)
    ]


def _go(code: str, folder: Path) -> list[str]:
    """Make a module that uses the client, as one of a user would, and return how to run it."""
    client = ROOT / "clients/go"
    version = re.search(r"^go \S+$", (client / "go.mod").read_text(), re.MULTILINE)
    assert version is not None
    (folder / "main.go").write_text(code)
    (folder / "go.mod").write_text(f"module example\n\n{version[0]}\n")
    (folder / "go.work").write_text(f"{version[0]}\n\nuse (\n\t.\n\t{client}\n)\n")
    return [toolchain("go"), "run", "."]


def _java(code: str, folder: Path) -> list[str]:
    """Write a program of one file and return how to run it."""
    source = folder / "QuickStart.java"
    source.write_text(code)
    return [toolchain("java"), *START_QUICKLY, "-cp", classpath(), str(source)]


def _rust(code: str, folder: Path) -> list[str]:
    """Make a package that uses the client, as one of a user would, and return how to run it."""
    client = ROOT / "clients/rust"
    manifest = (
        '[package]\nname = "example"\nedition = "2024"\n\n[dependencies]\n'
        f'recollect-client = {{ path = "{client}" }}\n'
        'tokio = { version = "1", features = ["full"] }\n'
        '[profile.dev]\ndebug = "line-tables-only"\n'
        '[profile.dev.package."*"]\ndebug = false\n'  # As the client's, to use what is built.
    )
    (folder / "src").mkdir()
    (folder / "src/main.rs").write_text(code)
    (folder / "Cargo.toml").write_text(manifest)
    shutil.copy(client / "Cargo.lock", folder)  # The versions that the client is tested with.
    target = f"--target-dir={client / 'target'}"
    return [toolchain("cargo"), "run", "--quiet", target]


def _run(example: Example, address: str, folder: Path) -> str:
    code = example.code.replace(ADDRESS, address)
    match example.language:
        case "python":
            command = [sys.executable, "-c", code]
        case "go":
            command = _go(code, folder)
        case "java":
            command = _java(code, folder)
        case "rust":
            command = _rust(code, folder)
        case "typescript":
            command = typescript_program(code, folder)
        case _:
            shell = code.replace("grpcurl", str(grpcurl_path()))
            command = ["bash", "-euo", "pipefail", "-c", shell]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=900, check=False, cwd=folder
    )
    where = f"{example.document}:{example.line}"
    assert done.returncode == 0, f"{where} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_examples_of_a_document_run_one_after_the_other(document, tmp_path):
    found = examples(document)
    assert found, f"{document} has no examples"
    with RunningServer() as server:
        outputs = [_run(example, server.address, tmp_path) for example in found]
    assert all(output.strip() for output in outputs)


def test_the_grpcurl_examples_show_what_they_promise(tmp_path):
    shells = [e for e in examples("README.md") if e.language == "sh"]
    with RunningServer() as server:
        listed, described, _, _, recalled, streamed, health = (
            _run(example, server.address, tmp_path) for example in shells
        )
    for service in ("MemoryService", "CacheService", "ChatService", "AdminService"):
        assert f"recollect.v1.{service}" in listed
    assert "grpc.health.v1.Health" in listed
    assert "Makes the call idempotent" in described
    assert "The museum opens at ten on Sundays." in recalled
    assert streamed.count('"delta"') > 1
    assert '"done"' in streamed
    assert '"SERVING"' in health

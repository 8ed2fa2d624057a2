"""The documents' examples run as they stand, but for the port: tests may run side by side."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.harness import RunningServer, grpcurl_path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "clients/python/README.md")
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


def _run(example: Example, address: str) -> str:
    code = example.code.replace(ADDRESS, address)
    if example.language == "python":
        command = [sys.executable, "-c", code]
    else:
        command = ["bash", "-euo", "pipefail", "-c", code.replace("grpcurl", str(grpcurl_path()))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    where = f"{example.document}:{example.line}"
    assert done.returncode == 0, f"{where} ended with {done.returncode}:\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_examples_of_a_document_run_one_after_the_other(document):
    found = examples(document)
    assert found, f"{document} has no examples"
    with RunningServer() as server:
        outputs = [_run(example, server.address) for example in found]
    assert all(output.strip() for output in outputs)


def test_the_grpcurl_examples_show_what_they_promise():
    shells = [e for e in examples("README.md") if e.language == "sh"]
    with RunningServer() as server:
        listed, described, _, _, recalled, streamed, health = (
            _run(example, server.address) for example in shells
        )
    for service in ("MemoryService", "CacheService", "ChatService", "AdminService"):
        assert f"recollect.v1.{service}" in listed
    assert "grpc.health.v1.Health" in listed
    assert "Makes the call idempotent" in described
    assert "The museum opens at ten on Sundays." in recalled
    assert streamed.count('"delta"') > 1
    assert '"done"' in streamed
    assert '"SERVING"' in health

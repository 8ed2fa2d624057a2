"""The Go client: its own tests with the race detector, and its example against a server."""

import subprocess

from tests.clients.example import chats_and_remembers
from tests.harness import ROOT, toolchain

CLIENT = ROOT / "clients/go"


def _run(*arguments: str, **more) -> str:
    done = subprocess.run(
        [toolchain("go"), *arguments],
        cwd=CLIENT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        **more,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass_without_a_race():
    assert "ok" in _run("test", "-race", "./...")


def test_its_example_chats_and_remembers(server):
    chats_and_remembers(server, _run, "run", "./examples/chat")

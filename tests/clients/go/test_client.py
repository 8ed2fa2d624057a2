"""The Go client: its own tests with the race detector, and its example against a server."""

import os
import subprocess

from tests.harness import ROOT, toolchain, unique

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
    name = unique("Tom")
    with server.client("ada") as client:
        client.memory.remember([f"My cat is called {name}"])
    environment = os.environ | {"RECOLLECT_ADDRESS": server.address}
    typed = "Hello\n\nHow is my cat called?\n"
    said = _run("run", "./examples/chat", input=typed, env=environment)
    assert said.count("> ") == 4
    assert name in said

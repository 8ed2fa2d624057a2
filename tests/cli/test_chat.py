"""`recollect chat` in a terminal: commands, markdown, cancelling, and a server that is lost."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.harness import RunningServer, clean_environment, eventually, unique
from tests.mocks.llm import MockLlm

FIXTURES = [
    {"match": {"userMessage": "slow"}, "response": {"content": "word " * 60},
     "chunkSize": 5, "latency": 60},
    {"match": {}, "response": {"content": "This is **bold**.", "usage": {
        "input_tokens": 1000, "output_tokens": 10}}},
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):
    with (
        MockLlm(tmp_path_factory.mktemp("mock"), FIXTURES) as mock,
        RunningServer(
            "--anthropic-base-url", mock.url, environment={"ANTHROPIC_API_KEY": "test"}
        ) as running,
    ):
        yield running


class Terminal:
    """`recollect chat` behind a pseudoterminal."""

    def __init__(self, server: RunningServer, home: Path, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self._heard = b""
        environment = clean_environment(TERM="xterm", COLUMNS="100", HOME=str(home))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recollect_server", "chat", "--target", server.address,
             *arguments],
            stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        while True:
            try:
                self._heard += os.read(self._master, 4096)
            except OSError:
                return

    @property
    def screen(self) -> str:
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._heard.decode(errors="replace"))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def wait_for(self, text: str) -> None:
        eventually(lambda: text in self.screen, 30)

    def close(self) -> None:
        # Typed before the prompt it would be the terminal's own, and never read.
        eventually(lambda: self.screen.endswith("> "), 30)
        self.type("\x04")
        assert self.process.wait(20) == 0
        os.close(self._master)


@pytest.fixture
def open_terminal(server, tmp_path):
    opened: list[Terminal] = []

    def make(*arguments: str) -> Terminal:
        opened.append(Terminal(server, tmp_path, *arguments))
        return opened[-1]

    yield make
    for terminal in opened:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait(10)


def test_answers_are_markdown_and_commands_reach_memory(server, open_terminal):
    user = unique("ada")
    terminal = open_terminal("--user", user)
    terminal.wait_for("> ")
    terminal.type("hello\n")
    terminal.wait_for("from claude")
    assert "This is bold." in terminal.screen
    assert "**" not in terminal.screen
    terminal.type("/remember Allergic to peanuts\n")
    with server.client(user) as client:
        fact = eventually(lambda: list(client.memory.list_facts()))[0]
        terminal.wait_for(fact.fact_id)
        terminal.type("/recall peanuts\n")
        terminal.wait_for(f"fact {fact.fact_id}")
        terminal.type("/context peanuts\n")
        terminal.wait_for("<facts_about_the_user>")
        terminal.type("/cost\n")
        terminal.wait_for("1 turns, 0 from the cache; tokens: 1000 given")
        terminal.type(f"/forget {fact.fact_id}\n")
        terminal.wait_for("forgotten")
        assert list(client.memory.list_facts()) == []
    terminal.type("/nonsense\n")
    terminal.wait_for("/remember FACT")
    terminal.close()


def test_ctrl_c_ends_the_answer_and_not_the_chat(server, open_terminal):
    user = unique("ada")
    with server.client(user) as client:
        session = client.memory.create_session().session_id
        terminal = open_terminal("--user", user, "--session", session)
        terminal.wait_for("> ")
        terminal.type("slow\n")
        terminal.wait_for("word word")
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("cancelled")
        asked, said = client.memory.list_messages(session)
        assert said.metadata["turn_state"] == "cancelled"
        assert asked.parts[0].text == "slow"
        terminal.type("hello\n")
        terminal.wait_for("This is bold.")
        terminal.close()
        again = open_terminal("--user", user, "--session", session)
        again.wait_for("> slow")
        again.wait_for("This is bold.")
        again.close()

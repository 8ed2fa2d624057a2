"""Servers killed in mid-stream: no message is lost, and no stored reply is generated again."""

import json
import os
import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.e2e.deployments import database_url
from tests.harness import RunningServer, eventually, unique
from tests.mocks.llm import MockLlm

from recollect import Recollect, errors
from recollect.v1 import chat_pb2, common_pb2, memory_pb2

ROUNDS = int(os.environ.get("RECOLLECT_FAULT_ROUNDS", "2"))
TURNS = 6
REPLY = "word " * 40
FIXTURES = [{"match": {}, "response": {"content": REPLY}, "chunkSize": 5, "latency": 30}]
# Without recall, so that a text is in the calls of its own turn alone.
OPTIONS = chat_pb2.ChatOptions(
    cache=chat_pb2.ChatCacheOptions(mode=chat_pb2.CACHE_MODE_OFF),
    context=memory_pb2.ContextOptions(profile=memory_pb2.CONTEXT_PROFILE_BUFFER),
)


class Asked:
    """One message, sent under one request_id until its turn is done."""

    def __init__(self, client: Recollect) -> None:
        self.session = client.memory.create_session().session_id
        self.request_id = str(uuid.uuid4())
        self.text = unique("tell")
        self.acknowledged = False
        self.done_before_the_kill = False
        self.turn: chat_pb2.Turn | None = None

    def send(self, address: str, user: str) -> None:
        """Send it once, over a connection of its own."""
        try:
            with Recollect(address, user_id=user) as client:
                # Not by the client's stream, which would take the turn up again by itself.
                events = client.chat.stream(
                    self.session,
                    self.text,
                    options=OPTIONS,
                    request_id=self.request_id,
                    timeout=60,
                )
                for event in events:
                    self.acknowledged |= event.HasField("started")
                    if event.HasField("done"):
                        self.turn = event.done.turn
        except errors.RecollectError:
            pass

    def repeat(self, address: str, user: str) -> None:
        """Send it again, once more if it was interrupted: the second time starts it over."""
        self.send(address, user)
        if self.turn is None:
            self.send(address, user)


def _calls(mock: MockLlm, text: str) -> int:
    chat = [body for body in mock.requests() if body["model"] == "claude-opus-4-8"]
    return sum(body["messages"][-1]["role"] == "user" and text in json.dumps(body["messages"][-1])
               for body in chat)  # fmt: skip


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_turns_survive_a_server_killed_in_mid_stream(kind, tmp_path: Path, postgres):
    chance = random.Random(kind)
    url, user = database_url(kind, tmp_path, postgres), unique("ada")
    with (
        MockLlm(tmp_path, FIXTURES) as mock,
        RunningServer(
            "--database-url", url, "--anthropic-base-url", mock.url,
            environment={"ANTHROPIC_API_KEY": "test"},
        ) as server,
        ThreadPoolExecutor(TURNS) as pool,
    ):  # fmt: skip
        for _ in range(ROUNDS):
            with server.client(user) as client:
                asked = [Asked(client) for _ in range(TURNS)]
            sending = [pool.submit(each.send, server.address, user) for each in asked]
            enough = chance.randint(1, TURNS)
            eventually(lambda asked=asked, n=enough: sum(a.acknowledged for a in asked) >= n, 60)
            if chance.random() < 0.4:
                sending[chance.randrange(TURNS)].result()
            server.kill()
            for each in asked:
                each.done_before_the_kill = each.turn is not None
            calls_before = {each.text: _calls(mock, each.text) for each in asked}
            server.start()
            for future in sending:
                future.result()
            for future in [pool.submit(each.repeat, server.address, user) for each in asked]:
                future.result()
            with server.client(user) as client:
                for each in asked:
                    assert each.turn is not None
                    assert each.turn.state == chat_pb2.TURN_STATE_DONE
                    listed = list(client.memory.list_messages(each.session))
                    roles = [common_pb2.ROLE_USER, common_pb2.ROLE_ASSISTANT]
                    assert [m.role for m in listed] == roles
                    assert listed[0].parts[0].text == each.text
                    assert listed[1].parts[0].text == REPLY
                    calls = _calls(mock, each.text)
                    assert calls <= 2
                    if each.done_before_the_kill:
                        assert calls == calls_before[each.text] == 1

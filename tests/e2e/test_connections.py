"""TLS, sockets, and a Valkey or Redis of one's own."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness import RunningServer, children, clean_environment, eventually
from tests.stores.valkey.valkey_server import Server

from recollect import Recollect, errors
from recollect.v1 import common_pb2

CERTIFICATE = Path(__file__).parents[1] / "stores/valkey/tls/localhost.crt"
TLS = ("--tls-cert", str(CERTIFICATE), "--tls-key", str(CERTIFICATE.with_suffix(".key")))


def test_tls_is_served_and_plain_text_is_not():
    with RunningServer(*TLS) as server:
        address = server.address.replace("127.0.0.1", "localhost")
        roots = CERTIFICATE.read_bytes()
        with Recollect(address, tls=True, root_certificates=roots, user_id="ada") as client:
            assert client.memory.create_session().session_id
        with (
            Recollect(address, user_id="ada", timeout=5) as client,
            pytest.raises(errors.RecollectError),
        ):
            client.memory.create_session(timeout=2)


@pytest.mark.parametrize("scheme", ["redis", "valkey"])
@pytest.mark.parametrize("name", ["REDIS_URL", "VALKEY_URL"])
def test_a_valkey_of_one_s_own_is_used_instead_of_an_embedded_one(scheme, name):
    own = Server()
    own.start()
    try:
        with RunningServer(environment={name: own.url(scheme)}) as server:
            assert not children(server.pid)
            with server.client("ada") as client:
                session = client.memory.create_session().session_id
                client.memory.append_messages(session, ["kept"])
                client.memory.get_context(session)
                prompt = common_pb2.Prompt(model="m")
                prompt.messages.add(role=common_pb2.ROLE_USER).parts.add(text="q")
                client.cache.store(prompt, "a")
                eventually(lambda: own.admin.dbsize() >= 2)
                own.admin.flushall()
                assert not client.cache.lookup(prompt).hit
                assert client.memory.get_context(session).messages[0].parts[0].text == "kept"
    finally:
        own.close()


def test_a_wrong_url_is_said_in_one_line_without_its_password(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "recollect_server", "serve", "--listen", "127.0.0.1:0"],
        capture_output=True,
        text=True,
        env=clean_environment(REDIS_URL="http://user:hunter2@example:1"),
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "redis://" in done.stderr
    assert "hunter2" not in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_in_use_is_said_in_one_line(server, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "recollect_server", "serve", "--listen", server.address],
        capture_output=True,
        text=True,
        env=clean_environment(),
        cwd=tmp_path,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert server.address in done.stderr
    assert "Traceback" not in done.stderr

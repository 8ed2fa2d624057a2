"""The gateway for browsers, by clients of other stacks, with TLS and without."""

import base64
import os
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from google.rpc import error_details_pb2
from tests.certificates import Authority
from tests.docs.test_examples import examples
from tests.harness import ROOT, RunningServer, clean_environment, eventually, toolchain, unique
from tests.issuer import AUDIENCE, ISSUER, IssuerServer
from tests.typescript import program

ORIGIN = "https://app.example.com"
MEMORY = "recollect.v1.MemoryService"
CONNECT = {"connect-protocol-version": "1"}


@pytest.fixture(scope="module")
def binary(tmp_path_factory) -> Path:
    built = tmp_path_factory.mktemp("gateway") / "recollect-gateway"
    command = [toolchain("go"), "build", "-o", str(built), "."]
    done = subprocess.run(
        command, cwd=ROOT / "gateway", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return built


@contextmanager
def running(binary: Path, folder: Path, *flags: str) -> Iterator[str]:
    """Run a gateway and yield its address."""
    ready = folder / "gateway-ready"
    command = [str(binary), "--listen", "127.0.0.1:0", "--ready-file", str(ready), *flags]
    with (folder / "gateway-log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, env=clean_environment())
    try:
        eventually(lambda: ready.exists() or process.poll() is not None)
        assert process.poll() is None, (folder / "gateway-log").read_text()
        yield ready.read_text()
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.fixture(scope="module")
def plain(binary, server, tmp_path_factory) -> Iterator[httpx.Client]:
    """A client of HTTP for a gateway without TLS, before a server that asks for nothing."""
    folder = tmp_path_factory.mktemp("plain")
    flags = ("--server", f"http://{server.address}", "--allow-origin", ORIGIN)
    with (
        running(binary, folder, *flags) as address,
        httpx.Client(base_url=f"http://{address}", headers=CONNECT, timeout=30) as client,
    ):
        yield client


def test_the_documents_example_runs_by_grpc_web_over_tls_with_a_user_s_token(binary, tmp_path):
    authority = Authority()
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    certificate, key = tmp_path / "host.crt", tmp_path / "host.key"
    for path, pem in zip((certificate, key), authority.issue("host", "127.0.0.1"), strict=True):
        path.write_bytes(pem)
    key.chmod(0o600)
    tls = ("--tls-cert", str(certificate), "--tls-key", str(key))
    expected = ("--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE)
    (example,) = examples("docs/browsers.md")
    with IssuerServer() as issuer:
        issuer.add_key("one")
        with (
            RunningServer("--auth", "jwt", "--jwt-jwks", issuer.url, *expected, *tls) as server,
            running(
                binary,
                tmp_path,
                *tls,
                f"--server=https://{server.address}",
                f"--server-ca={tmp_path / 'ca.crt'}",
            ) as address,
        ):
            code = example.code.replace("127.0.0.1:8443", address)
            code = code.replace("eyJ...", issuer.token("one"))
            done = subprocess.run(
                program(code, tmp_path),
                cwd=tmp_path,
                env=os.environ | {"NODE_EXTRA_CA_CERTS": str(tmp_path / "ca.crt")},
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            trusted = ssl.create_default_context(cafile=tmp_path / "ca.crt")
            url = f"https://{address}/{MEMORY}/Recall"
            asked = {"userId": "ada", "query": "seats"}
            refused = httpx.post(url, json=asked, headers=CONNECT, verify=trusted)
    assert done.returncode == 0, done.stderr
    *said, error = done.stdout.strip().splitlines()
    assert len(said) > 1
    assert "window seats" in "".join(said)
    assert error == "NotFound SESSION_NOT_FOUND"
    assert refused.status_code == 401
    assert _reason(refused.json()) == "CREDENTIAL_MISSING"


def _reason(error: dict) -> str:
    """Return the reason of an error of Connect."""
    (found,) = (d for d in error["details"] if d["type"] == "google.rpc.ErrorInfo")
    value = base64.b64decode(found["value"] + "==")
    return error_details_pb2.ErrorInfo.FromString(value).reason


def test_connect_by_json_calls_and_gets_typed_errors(plain):
    user_id = unique("ada")
    remembered = {"userId": user_id, "facts": [{"text": "Prefers window seats"}]}
    assert plain.post(f"/{MEMORY}/Remember", json=remembered).status_code == 200
    found = plain.post(f"/{MEMORY}/Recall", json={"userId": user_id, "query": "which seats?"})
    assert found.json()["hits"][0]["fact"]["text"] == "Prefers window seats"
    assert found.headers["trailer-x-request-id"]
    missing = {"userId": user_id, "sessionId": "missing"}
    failed = plain.post(f"/{MEMORY}/GetSession", json=missing)
    assert failed.status_code == 404
    assert failed.json()["code"] == "not_found"
    assert _reason(failed.json()) == "SESSION_NOT_FOUND"


def test_each_message_of_a_stream_comes_as_it_is_made(plain, server):
    user_id = unique("ada")
    body = b'{"userId": "%s"}' % user_id.encode()
    envelope = b"\0" + len(body).to_bytes(4, "big") + body
    streaming = {"content-type": "application/connect+json"}
    url = f"/{MEMORY}/Watch"
    with plain.stream("POST", url, content=envelope, headers=streaming) as watch:
        assert watch.status_code == 200
        chunks = watch.iter_raw()
        assert any(b"resumeToken" in chunk for chunk in chunks)
        with server.client(user_id) as client:
            client.memory.create_session(title="Travel")
        assert any(b"session" in chunk for chunk in chunks)


def test_administration_is_not_served(plain):
    answer = plain.post("/recollect.v1.AdminService/GetServerInfo", json={})
    assert answer.status_code == 404


@pytest.mark.parametrize(("origin", "allowed"), [(ORIGIN, True), ("https://evil.example", False)])
def test_only_named_origins_may_call(plain, origin, allowed):
    asked = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-grpc-web",
    }
    answer = plain.options(f"/{MEMORY}/Recall", headers=asked)
    assert (answer.headers.get("access-control-allow-origin") == origin) is allowed


def test_a_server_that_is_not_there_is_unavailable(binary, tmp_path):
    with (
        running(binary, tmp_path, "--server=http://127.0.0.1:1") as address,
        httpx.Client(base_url=f"http://{address}", headers=CONNECT) as client,
    ):
        answer = client.post(f"/{MEMORY}/Recall", json={"userId": "ada", "query": "x"})
    assert answer.status_code == 503
    assert answer.json()["code"] == "unavailable"


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--listen=0.0.0.0:0"], "--tls-cert"),
        (["--server=http://recollect.example:50051"], "plain text"),
        (["--server=recollect.example:50051"], "http://host:port"),
        (["--allow-origin=*"], "--allow-origin"),
        (["--allow-origin=https://app.example.com/"], "--allow-origin"),
        (["--tls-cert=gateway.crt"], "--tls-key"),
    ],
)
def test_what_would_be_unsafe_or_meaningless_is_refused_at_start(binary, flags, named):
    done = subprocess.run(
        [str(binary), *flags], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode in (1, 2)
    assert named in done.stderr

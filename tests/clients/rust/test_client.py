"""The Rust client: its own tests, its package as it would be published, and its example."""

import os
import subprocess
import tarfile

from tests.harness import ROOT, toolchain, unique

CLIENT = ROOT / "clients/rust"


def _run(*arguments: str, **more) -> str:
    done = subprocess.run(
        [toolchain("cargo"), *arguments],
        cwd=CLIENT,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        **more,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass():
    assert "test result: ok" in _run("test", "--locked", "--workspace")


def test_its_package_has_what_it_is_built_from():
    _run("package", "--locked", "--allow-dirty", "--no-verify", "-p", "recollect-client")
    (package,) = (CLIENT / "target/package").glob("recollect-client-*.crate")
    with tarfile.open(package) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        descriptors = archive.extractfile(f"{package.stem}/contract.binpb")
        assert descriptors is not None
        contract = descriptors.read()
    assert {"Cargo.toml", "README.md", "LICENSE", "build.rs", "src/lib.rs"} <= names
    assert contract == (ROOT / "server/recollect_server/rpc/contract.binpb").read_bytes()


def test_its_example_chats_and_remembers(server):
    name = unique("Tom")
    with server.client("ada") as client:
        client.memory.remember([f"My cat is called {name}"])
    environment = os.environ | {"RECOLLECT_ADDRESS": server.address}
    typed = "Hello\n\nHow is my cat called?\n"
    said = _run("run", "--quiet", "--locked", "--example", "chat", input=typed, env=environment)
    assert said.count("> ") == 4
    assert name in said

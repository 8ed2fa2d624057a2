"""The Java client: its own tests, its packages, and its example against a server."""

import subprocess
import zipfile

from tests.clients.example import chats_and_remembers
from tests.harness import toolchain
from tests.java import CLIENT, START_QUICKLY, classpath, maven


def _run(*arguments: str, **more) -> str:
    done = subprocess.run(
        [toolchain("java"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **more,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_its_own_tests_pass():
    maven("test")
    assert list(CLIENT.glob("target/surefire-reports/*.xml"))


def test_its_example_compiles_without_a_warning(tmp_path):
    options = ["-Xlint:all", "-Werror", "-cp", classpath(), "-d", str(tmp_path)]
    example = str(CLIENT / "examples/chat/Chat.java")
    subprocess.run([toolchain("javac"), *options, example], check=True)


def test_its_example_chats_and_remembers(server):
    example = str(CLIENT / "examples/chat/Chat.java")
    chats_and_remembers(server, _run, *START_QUICKLY, "-cp", classpath(), example)


def test_what_is_published_has_its_sources_and_documentation():
    maven("package", "-P", "release", "-DskipTests", "-Dgpg.skip")
    for kind, holds in (
        ("", "ai/recollect/RecollectClient.class"),
        ("-sources", "ai/recollect/v1/Session.java"),
        ("-javadoc", "ai/recollect/RecollectClient.html"),
    ):
        (jar,) = CLIENT.glob(f"target/recollect-client-*.*.?{kind}.jar")
        with zipfile.ZipFile(jar) as opened:
            assert any(name.endswith(holds) for name in opened.namelist())
            assert not any("conformance" in name for name in opened.namelist())

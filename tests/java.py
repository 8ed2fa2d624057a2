"""The Java client, built as it is needed."""

import fcntl
import os
import subprocess
from functools import cache

from tests.harness import ROOT, toolchain

CLIENT = ROOT / "clients/java"
MAVEN = ("--batch-mode", "--quiet", "--no-transfer-progress")
START_QUICKLY = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Options of Java for programs that end soon."""


def maven(*arguments: str) -> str:
    """Run Maven on the client, one at a time, and return what it says.

    Skips without Maven or a JDK, but fails in CI.
    """
    toolchain("javac")
    command = [toolchain("mvn"), *MAVEN, *arguments]
    lock = ROOT / ".tools/java.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
def classpath() -> str:
    """Build the client and its tests, and return where Java finds them and what they need."""
    found = CLIENT / "target/classpath"
    maven("test-compile", "dependency:build-classpath", f"-Dmdep.outputFile={found}")
    built = (str(CLIENT / "target" / folder) for folder in ("classes", "test-classes"))
    return os.pathsep.join([*built, found.read_text()])

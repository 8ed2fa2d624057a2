"""The search for secrets finds what is planted, and only that."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.harness import ROOT

HEX = hashlib.sha256(b"a key").hexdigest()
# Put together here, so that this file holds none.
PLANTED = {
    "AWS Access Key": "key = 'AKIA" + "Q3EGRZ7T5SJ2WXLD'\n",
    "GitHub Token": "token = 'ghp_" + "x7Kq2mZ9vT4bR8wL1nC6yD3fH5jP0sGaUeIo'\n",
    "Private Key": "-----BEGIN " + "PRIVATE KEY-----\nMC4CAQAwBQYDK2Vw\n",
    "Basic Auth Credentials": "url = 'https://ops:" + "hunter2hunter2@db.example.com/x'\n",
    "Hex High Entropy String": f"k = '{HEX}'\n",
}


def _search(*files: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        [str(ROOT / "scripts" / "find_secrets"), *map(str, files)],
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_secret_is_found(tmp_path, kind):
    file = tmp_path / "settings.py"
    file.write_text("name = 'value'\n" + PLANTED[kind])
    found = _search(file)
    assert found.returncode != 0
    assert f"Secret Type: {kind}" in found.stdout
    assert f"{file}:2" in found.stdout


def test_an_ordinary_file_passes(tmp_path):
    file = tmp_path / "settings.py"
    file.write_text("password = settings.password\nname = 'value'\n")
    assert _search(file).returncode == 0

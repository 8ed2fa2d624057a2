"""`recollect serve` says in one line why it does not start, and what it was given in vain."""

import subprocess
import sys

import pytest
from tests.harness import RunningServer, clean_environment


def _refusal(*arguments: str) -> str:
    """Return the last line of a command that must not start."""
    done = subprocess.run(
        [sys.executable, "-m", "recollect_server", *arguments],
        capture_output=True, text=True, env=clean_environment(), timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--activity-file", "cannot use the activity file {}: No such file or directory"),
        ("--audit-heads", "cannot write the audit heads to {}: No such file or directory"),
        ("--ready-file", "cannot write {}: No such file or directory"),
    ],
)
def test_a_file_in_no_folder_stops_the_start_and_is_named(flag, said, tmp_path):
    file = str(tmp_path / "none" / "file")
    where = ("--data-dir", str(tmp_path / "data"), flag, file)
    told = "recollect: " + said.format(file)
    assert _refusal("serve", "--listen", "127.0.0.1:0", *where) == told
    assert _refusal("worker", *where) == told


def test_a_variable_and_a_secret_that_are_no_settings_are_logged_without_their_values(tmp_path):
    (tmp_path / "DATABSE_URL").write_text("postgresql://:hidden@example/db")
    environment = {"RECOLLECT_STATE_ULR": "redis://:hidden@example", "RECOLLECT_PORT": "tcp://x:1"}
    flags = ("--secrets-dir", str(tmp_path))
    with RunningServer(*flags, environment=environment) as server:
        said = [line for line in server.log.splitlines() if "no setting has the name" in line]
    assert len(said) == 2
    assert "RECOLLECT_STATE_ULR" in said[0]
    assert "DATABSE_URL" in said[1]
    assert "hidden" not in "".join(said)

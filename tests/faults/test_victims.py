"""What is said to be killed is killed, and runs again."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from tests.faults.deployment import DEPLOYMENTS, Running, processes_in, processes_of
from tests.faults.victims import VICTIMS
from tests.harness import alive


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """The deployment with the most parts."""
    with DEPLOYMENTS[-1].run() as running:
        yield running


def test_a_process_left_in_a_folder_is_found(tmp_path: Path):
    folder = tmp_path / "inside"
    folder.mkdir()
    assert processes_in(tmp_path) == []
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE) as orphan:
        assert processes_in(tmp_path) == [orphan.pid]
        orphan.kill()
    assert processes_in(tmp_path) == []


def test_every_victim_is_part_of_a_deployment():
    assert {name for deployment in DEPLOYMENTS for name in deployment.victims} == set(VICTIMS)


@pytest.mark.parametrize("name", VICTIMS)
def test_a_victim_is_killed_and_runs_again(running, name):
    assert running.postgres is not None
    stores = [running.postgres.process.pid, *running.postgres.backends(running.database_url)]
    before = {*processes_of(running), *stores}
    VICTIMS[name].kill(running, Random(1))
    assert not all(map(alive, before))
    VICTIMS[name].restore(running)
    with running.server.client("ada") as client:
        client.memory.remember(["it works"])


def test_all_of_a_deployment_ends_when_it_is_told_to(running):
    assert running.stop() == []

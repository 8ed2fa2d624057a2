"""Processes that take turns: whoever is not measured is stopped, so that each has the machine."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def running(
    command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Run a command whose output goes to a file; give its process id, and end it."""
    with log.open("wb") as said:
        process = subprocess.Popen(  # noqa: S603 - the harness's own commands
            command, stdout=said, stderr=said, env={**os.environ, **(environment or {})}
        )
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def family(pid: int) -> list[int]:
    """Return a process and all that it started."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(one for child in children for one in family(int(child)))]


@contextmanager
def awake(pids: Sequence[int]) -> Iterator[None]:
    """Let stopped processes run for a while."""
    every = [one for pid in pids for one in family(pid)]
    for pid in every:
        os.kill(pid, signal.SIGCONT)
    time.sleep(0.05)
    try:
        yield
    finally:
        for pid in every:
            os.kill(pid, signal.SIGSTOP)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Seconds of processor time that the processes and their children took so far."""
    return sum(_cpu_seconds(one) for pid in pids for one in family(pid))


def _cpu_seconds(pid: int) -> float:
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def end_of(log: Path) -> str:
    """Return the last of what a process said."""
    return log.read_text(errors="replace")[-2000:]

"""SQLite's disk is full: writes are refused with a reason, reads go on, and all is kept."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness import RunningServer, eventually, unique

from recollect import Recollect, errors
from recollect.v1 import memory_pb2

MIB = 1024 * 1024
DISK = 24 * MIB
SECONDS = 60.0
BUFFER = memory_pb2.ContextOptions(profile=memory_pb2.CONTEXT_PROFILE_BUFFER)


class Disk:
    """A small file system that can be filled up from outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(b"x" * 4096)
            except OSError:
                return

    def make_room(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", str(folder)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("needs to mount a small file system")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _write_until_refused(client: Recollect, session: str, written: list[str]) -> errors.Unavailable:
    """Append until it is refused, on a disk that gets full; return how."""
    while True:
        text = f"{len(written)} " + "swans " * 500
        try:
            client.memory.append_messages(session, [text])
        except errors.Unavailable as error:
            return error
        written.append(text)


def _listed(client: Recollect, session: str) -> list[str]:
    return [m.parts[0].text for m in client.memory.list_messages(session, page_size=1000)]


def test_writes_are_refused_reads_go_on_and_nothing_acknowledged_is_lost(disk):
    flags = ("--database-url", f"sqlite:///{disk.folder / 'recollect.db'}")
    with RunningServer(*flags) as server, server.client(unique("ada")) as client:
        session = client.memory.create_session().session_id
        written: list[str] = []
        for number in range(20):
            written.append(f"{number} swans")
            client.memory.append_messages(session, [written[-1]])
        client.memory.remember(["Saw a heron"])

        disk.fill()
        refused = _write_until_refused(client, session, written)
        assert refused.reason == "STORE_UNAVAILABLE"
        assert refused.retry_after
        with pytest.raises(errors.Unavailable):
            client.memory.remember(["Saw " + "two herons " * 500])

        assert _listed(client, session) == written
        shown = client.memory.get_context(session, options=BUFFER).messages
        assert [message.parts[0].text for message in shown] == written[-20:]
        assert client.memory.recall("heron").hits[0].fact.text == "Saw a heron"
        assert client.memory.get_session(session).last_sequence == len(written)

        disk.make_room()

        def works() -> bool:
            try:
                client.memory.append_messages(session, ["There is room."])
            except errors.Unavailable:
                return False
            return True

        eventually(works, SECONDS)
        written.append("There is room.")
        revision = client.memory.remember(["Saw two herons"]).user_revision
        assert client.memory.recall("heron", min_revision=revision, timeout=SECONDS).hits
        assert _listed(client, session) == written

        # Whatever a process leaves on a full disk, the next one reads.
        disk.fill()
        _write_until_refused(client, session, written)
        server.kill()
        server.start()
        assert _listed(client, session) == written
        disk.make_room()
        eventually(works, SECONDS)
        assert _listed(client, session)[: len(written)] == written

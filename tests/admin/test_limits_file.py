"""The file of limits while it changes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.harness import eventually

from recollect_server.admin import limits_file
from recollect_server.admin.limits import AllLimits
from recollect_server.admin.limits_file import LimitsFile, LimitsFileError
from recollect_server.files import Stamp, stamp

FIVE, SIX = 'user_limits = "requests=5/s"', 'user_limits = "requests=6/s"'


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(limits_file, "LOOK_SECONDS", 0.01)
    file = tmp_path / "limits.toml"
    file.write_text(FIVE)
    return file


@asynccontextmanager
async def _watched(path: Path) -> AsyncIterator["asyncio.Queue[AllLimits]"]:
    """Give the limits that are found after the first ones."""
    found: asyncio.Queue[AllLimits] = asyncio.Queue()
    file = LimitsFile(path)
    assert file.read() == AllLimits.parse(FIVE)
    watching = asyncio.create_task(file.watch(found.put_nowait))
    try:
        async with asyncio.timeout(30):
            yield found
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


async def test_a_file_that_is_written_or_replaced_is_read_again(path):
    async with _watched(path) as found:
        path.write_text(SIX)
        assert await found.get() == AllLimits.parse(SIX)
        _replace(path, FIVE)
        assert await found.get() == AllLimits.parse(FIVE)
        assert found.empty()


async def test_a_link_that_points_to_another_file_is_read_again(path, tmp_path):
    """As Kubernetes changes a mounted ConfigMap."""
    (other := tmp_path / "other").write_text(SIX)
    link = tmp_path / "link"
    link.symlink_to(path)
    async with _watched(link) as found:
        (new := tmp_path / "new").symlink_to(other)
        new.replace(link)
        assert await found.get() == AllLimits.parse(SIX)


@pytest.mark.parametrize("text", ["user_limits = 5", None])
async def test_a_wrong_file_and_none_change_nothing_and_are_told_once(path, text, monkeypatch):
    looks: list[Path] = []

    def look(file: Path) -> Stamp:
        looks.append(file)
        return stamp(file)

    monkeypatch.setattr(limits_file, "stamp", look)
    with capture_logs() as lines:
        async with _watched(path) as found:
            if text is None:
                path.unlink()
            else:
                _replace(path, text)
            await asyncio.to_thread(eventually, lambda: lines)
            seen = len(looks)
            await asyncio.to_thread(eventually, lambda: len(looks) > seen + 5)
            assert found.empty()
            (told,) = lines
            assert told["log_level"] == "error"
            assert told["event"] == "the limits file is wrong: the old limits stay"
            _replace(path, SIX)
            assert await found.get() == AllLimits.parse(SIX)


@pytest.mark.parametrize("text", [b"user_limits = 5", b"\xff", None])
def test_a_wrong_file_and_none_are_refused_by_name(tmp_path, text):
    path = tmp_path / "limits.toml"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(LimitsFileError, match=r"limits\.toml"):
        LimitsFile(path).read()

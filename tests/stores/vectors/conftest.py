"""The places of all stores."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.postgres_server import PostgresServer
from tests.stores.vectors.qdrant_wire import qdrant_wire
from tests.stores.vectors.setups import KINDS, Opened, Place, chroma_server

from recollect_server.stores.sql.migrate import migrate


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running Chroma server."""
    with chroma_server(tmp_path_factory.mktemp("chroma")) as url:
        yield url


@pytest.fixture
def qdrant_url() -> Iterator[str]:
    """Qdrant's HTTP API."""
    with qdrant_wire() as url:
        yield url


@pytest.fixture
def memory_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: Qdrant's local mode syncs every point."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else tmp_path))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A store of each kind, empty, with a database; pgvector is in that database."""
    if request.param == "pgvector":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        return Place(postgres.create("recollect"), "pgvector:")
    file = tmp_path / "recollect.db"
    migrate(file)
    if request.param == "chroma-http":
        return Place(file, request.getfixturevalue("chroma_url"))
    if request.param == "qdrant-wire":
        return Place(file, request.getfixturevalue("qdrant_url"))
    if request.param == "qdrant":
        return Place(file, f"qdrant://{request.getfixturevalue('memory_folder')}")
    return Place(file, f"{request.param}://{tmp_path / request.param}")


@pytest.fixture
async def opened(place: Place) -> AsyncIterator[Opened]:
    async with place.open() as opened:
        yield opened

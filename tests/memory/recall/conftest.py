"""Builders of small items."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from numpy.typing import NDArray

from recollect_server.memory.model import MemoryKind, Role
from recollect_server.memory.ports import IndexItem

START = datetime(2024, 3, 4, 12, tzinfo=UTC)

Turn = Callable[..., IndexItem]


@pytest.fixture
def turn() -> Turn:
    """Make a turn; its id is `session:sequence`."""

    def make(
        sequence: int,
        text: str,
        *,
        session: str = "s",
        speaker: str = "user",
        role: Role = Role.USER,
        time: datetime | None = None,
        metadata: Mapping[str, str] | None = None,
        vector: NDArray[np.float32] | None = None,
    ) -> IndexItem:
        return IndexItem(
            MemoryKind.TURN,
            f"{session}:{sequence}",
            session,
            sequence,
            role,
            speaker,
            text,
            time or START + timedelta(minutes=sequence),
            metadata or {},
            vector,
        )

    return make


@pytest.fixture
def fact() -> Turn:
    """Make a fact."""

    def make(fact_id: str, text: str, *, vector: NDArray[np.float32] | None = None) -> IndexItem:
        return IndexItem(MemoryKind.FACT, fact_id, "", 0, Role.USER, "", text, START, {}, vector)

    return make

"""Fixtures that several suites share."""

from collections.abc import Iterator

import pytest
from tests.harness import RunningServer


@pytest.fixture(scope="session")
def server() -> Iterator[RunningServer]:
    """One server for all tests that use users of their own and break nothing."""
    with RunningServer() as running:
        yield running

"""Which suites run on which database."""

import pytest

ON_POSTGRES = ("test_memory", "test_chat_and_cache", "test_bad_input", "test_summaries")
"""Suites whose shared server is one on PostgreSQL, too."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    name = metafunc.module.__name__.rpartition(".")[2]
    if name in ON_POSTGRES and "server" in metafunc.fixturenames:
        metafunc.parametrize("server", ["sqlite", "postgres"], indirect=True, scope="session")

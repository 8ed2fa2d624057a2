"""A server that is watched in every way."""

from collections.abc import Iterator

import pytest
from tests.harness import RunningServer
from tests.mocks.llm import MockLlm, free_port
from tests.observability.collector import Collector

FIXTURES = [
    {"match": {"userMessage": "busy"},
     "response": {"error": {"message": "x", "type": "overloaded_error"}, "status": 529}},
    {"match": {}, "response": {"content": "Here you are.", "usage": {
        "input_tokens": 20, "output_tokens": 7}}},
]  # fmt: skip


@pytest.fixture(scope="package")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MockLlm]:
    with MockLlm(tmp_path_factory.mktemp("mock"), FIXTURES) as running:
        yield running


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.fixture(scope="package")
def metrics() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="package")
def server(mock: MockLlm, collector: Collector, metrics: str) -> Iterator[RunningServer]:
    with RunningServer(
        *("--metrics-listen", metrics, "--traces-endpoint", collector.url),
        *("--anthropic-base-url", mock.url, "--log-level", "debug", "--log-format", "json"),
        environment={
            "ANTHROPIC_API_KEY": "sk-secret",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
    ) as running:
        yield running

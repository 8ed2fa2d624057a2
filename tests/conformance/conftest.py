"""Servers and runners of the conformance suite, and its table at the end."""

from collections import defaultdict
from collections.abc import Iterator

import pytest
from tests.conformance.runner import LANGUAGES, Runner
from tests.conformance.servers import Servers

MARKS = {"passed": "ok", "failed": "FAILED", "not served": "not served", "skipped": "skipped"}
_table: dict[str, dict[str, str]] = defaultdict(dict)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Servers that all scenarios share."""
    made = Servers(tmp_path_factory.mktemp("conformance"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def runners() -> Iterator[dict[str, Runner]]:
    """The runners that run, by language; pytest itself would start one anew for each scenario."""
    running: dict[str, Runner] = {}
    yield running
    for runner in running.values():
        runner.stop()


@pytest.fixture
def runner(request: pytest.FixtureRequest, runners: dict[str, Runner]) -> Runner:
    """The runner of a language."""
    if request.param not in runners:
        runners[request.param] = Runner(LANGUAGES[request.param]())
    return runners[request.param]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Note the outcome of a scenario in a language."""
    report = yield
    found = dict(item.user_properties)
    if "language" in found and (report.when == "call" or report.outcome != "passed"):
        outcome = found.get("outcome", report.outcome)
        _table[found["scenario"]][found["language"]] = MARKS[outcome]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Write the table of scenario by language."""
    if not _table:
        return
    languages = sorted({language for row in _table.values() for language in row})
    width = max(len(name) for name in _table)
    terminalreporter.section("conformance")
    head = "".join(f"{language:>12}" for language in languages)
    terminalreporter.write_line(f"{'':{width}}{head}")
    for name, row in sorted(_table.items()):
        cells = "".join(f"{row.get(language, '-'):>12}" for language in languages)
        terminalreporter.write_line(f"{name:{width}}{cells}")
    for mark in MARKS.values():
        counts = [sum(row.get(lang) == mark for row in _table.values()) for lang in languages]
        terminalreporter.write_line(f"{mark:{width}}" + "".join(f"{n:>12}" for n in counts))

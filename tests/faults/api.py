"""A model's API that can be down, or answer in another way, at one address."""

import json
from pathlib import Path
from typing import Any

from tests.mocks.llm import MockLlm

Fixtures = list[dict[str, Any]]

SUMMARY = "They spoke about the garden."
HEALTHY: Fixtures = [
    {"match": {"userMessage": "</summary>\n<messages>"}, "response": {"content": SUMMARY}},
    {"match": {"userMessage": "<messages>"}, "response": {"content": '{"facts": []}'}},
    {"match": {"userMessage": "<summary>"}, "response": {"content": "The garden"}},
]


class Api:
    """A model's API at one address, which can be down, or answer in another way."""

    def __init__(self, folder: Path, fixtures: Fixtures | None = None) -> None:
        self._file = folder / "fixtures.json"
        self._mock = MockLlm(folder, fixtures or HEALTHY)
        self.url = self._mock.url

    def up(self) -> None:
        """Answer again, as last time."""
        self._mock.start()

    def down(self) -> None:
        """Refuse connections."""
        self._mock.stop()

    def answer(self, fixtures: Fixtures) -> None:
        """Answer in this way from now on."""
        self._mock.stop()
        self._file.write_text(json.dumps({"fixtures": fixtures}))
        self._mock.start()

"""`recollect bench recall`: what it reads, what it counts, how it ends."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.harness import clean_environment

from recollect_server.bench.data import DataError, parse_time, read
from recollect_server.bench.stats import mean, percentile, recall_at, reciprocal_rank

LINES = [
    {"kind": "turn", "user": "u", "session": "u/1", "id": "D1:1", "time": "2023",
     "speaker": "Ada", "text": "I planted tomatoes in the garden."},
    {"kind": "turn", "user": "u", "session": "u/1", "id": "D1:2", "time": "2 May, 2023",
     "speaker": "Bob", "text": "My bicycle has a flat tyre."},
    {"kind": "turn", "user": "v", "session": "v/1", "id": "D1:1", "time": "",
     "speaker": "assistant", "text": "The museum opens at ten."},
    {"kind": "fact", "user": "u", "id": "f1", "text": "Allergic to peanuts"},
    {"kind": "question", "user": "u", "text": "What did Ada plant?", "relevant": ["D1:1"],
     "category": "garden"},
    {"kind": "question", "user": "u", "text": "What happened to the bicycle?",
     "relevant": ["D1:2"], "category": "bicycle"},
    {"kind": "question", "user": "v", "text": "When does the museum open?",
     "relevant": ["D1:1"], "category": 3},
    {"kind": "question", "user": "u", "text": "Any allergies to peanuts?", "relevant": ["f1"]},
]  # fmt: skip


def _write(folder: Path, *lines: str) -> Path:
    file = folder / "data.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


def _bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "recollect_server", "bench", "recall", *arguments],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=120,
        check=False,
    )


def test_it_finds_what_is_there_and_writes_table_json_and_picture(server, tmp_path):
    file = _write(tmp_path, *map(json.dumps, LINES))
    out, picture = tmp_path / "out.json", tmp_path / "out.svg"
    arguments = ("--json", str(out), "--plot", str(picture))
    done = _bench(str(file), "--target", server.address, *arguments)
    assert done.returncode == 0, done.stderr
    figures = json.loads(out.read_text())
    assert (figures["recall_at_5"], figures["recall_at_10"], figures["mrr"]) == (1.0, 1.0, 1.0)
    assert figures["questions"] == 4
    assert set(figures["by_category"]) == {"garden", "bicycle", "3", ""}
    assert figures["query_ms"]["p99"] >= figures["query_ms"]["p50"] > 0
    assert figures["ingest_turns_per_s"] > 0
    assert "R@10" in done.stdout
    assert "<svg" in picture.read_text()
    again = _bench(str(file), "--target", server.address, "--top-k", "5", "--json", str(out))
    assert again.returncode == 0, again.stderr
    assert json.loads(out.read_text())["recall_at_10"] is None


def test_without_a_target_it_starts_a_server_of_its_own(tmp_path):
    file = _write(tmp_path, *map(json.dumps, LINES))
    done = _bench(str(file))
    assert done.returncode == 0, done.stderr
    assert "1.000" in done.stdout


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{", "data.jsonl:2: "),
        ('{"kind": "song"}', '"kind" turn, fact or question'),
        ('{"kind": "fact", "user": "u", "id": "", "text": "x"}', '"id" must be'),
        ('{"kind": "question", "user": "u", "text": "x", "relevant": []}', '"relevant" must'),
        ("[]", "must be an object"),
    ],
)
def test_bad_data_ends_with_2_and_names_file_and_line(tmp_path, line, text):
    file = _write(tmp_path, json.dumps(LINES[0]), line)
    done = _bench(str(file))
    assert done.returncode == 2
    assert text in done.stderr
    assert "data.jsonl:2: " in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_usage_ends_with_2_and_an_unreachable_server_with_1(tmp_path):
    file = _write(tmp_path, *map(json.dumps, LINES))
    assert _bench(str(tmp_path / "missing")).returncode == 2
    assert _bench(str(file), "--top-k", "0").returncode == 2
    assert _bench(str(file), "--plot", "out.pdf").returncode == 2
    unreachable = _bench(str(file), "--target", "127.0.0.1:1")
    assert unreachable.returncode == 1
    assert "Traceback" not in unreachable.stderr


def test_a_file_without_questions_is_refused(tmp_path):
    with pytest.raises(DataError, match="questions"):
        read(_write(tmp_path, json.dumps(LINES[0])))


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("1:56 pm on 8 May, 2023", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("2023", datetime(2023, 1, 1, tzinfo=UTC)),
        ("2023-05-08T13:56:00Z", datetime(2023, 5, 8, 13, 56, tzinfo=UTC)),
        ("8 May, 2023", datetime(2023, 5, 8, tzinfo=UTC)),
        ("some day", None),
        ("", None),
    ],
)
def test_times_of_many_spellings_are_read(text, time):
    assert parse_time(text) == time


def test_the_figures_are_what_their_names_say():
    assert recall_at(["a", "b", "c"], {"a", "c"}, 2) == 0.5
    assert reciprocal_rank(["a", "b"], {"b"}) == 0.5
    assert reciprocal_rank(["a"], {"z"}) == 0.0
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([1], 0.99) == 1
    assert mean([]) == 0

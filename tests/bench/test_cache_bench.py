"""`recollect bench cache`: what it reads and what it counts."""

import json

import pytest

from recollect_server.bench.cache import CacheRun, Found, curve, rates, results
from recollect_server.bench.cache_data import Probe, Said, read
from recollect_server.bench.cache_report import plot
from recollect_server.bench.data import DataError

ENTRY = {"kind": "entry", "id": "a", "messages": [{"role": "user", "content": "Who is Ada?"}]}
PROBE = {"kind": "probe", "case": "same", "messages": ENTRY["messages"], "expect": "a"}


def _file(folder, *lines):
    path = folder / "cache.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


def test_a_file_is_read_in_its_order(tmp_path):
    data = read(_file(tmp_path, ENTRY, PROBE, {**PROBE, "expect": None, "case": "other"}))
    assert data.entries[0].messages == (Said("user", "Who is Ada?"),)
    assert [(probe.case, probe.expect) for probe in data.probes] == [("same", "a"), ("other", None)]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({**PROBE, "expect": "b"}, "names no entry"),
        ({**PROBE, "messages": []}, "messages"),
        ({**PROBE, "messages": [{"role": "wizard", "content": "x"}]}, "role"),
        ({**ENTRY, "id": 7}, "id"),
        ({"kind": "turn"}, "kind"),
        ([1], "kind"),
    ],
)
def test_bad_data_is_refused_with_its_line(tmp_path, line, said):
    with pytest.raises(DataError, match=rf"cache\.jsonl:2: .*{said}"):
        read(_file(tmp_path, ENTRY, line))


def _found(expect, answer, sure, exact=False):
    return Found(Probe("case", (Said("user", "x"),), expect), answer, sure, exact, 0.002)


FOUND = (
    _found("a", "a", 1.0, exact=True),
    _found("b", "b", 0.99),
    _found("c", "a", 0.9),
    _found(None, "b", 0.8),
    _found("d", None, 0.0),
)


def test_precision_is_of_hits_and_the_hit_rate_of_what_expects_an_entry():
    assert rates(FOUND) == (2 / 4, 2 / 4)
    assert rates(FOUND, 0.95) == (1.0, 2 / 4)
    assert rates(FOUND[4:]) == (1.0, 0.0)
    assert curve(FOUND)[0] == (1 / 4, 1.0)
    assert curve(FOUND)[-1] == (2 / 4, 2 / 4)


def test_the_json_counts_by_case(tmp_path):
    run = CacheRun(FOUND, (0.001,), FOUND, FOUND[:2], "user", 0.01)
    figures = results(run)
    assert figures["cases"] == {"case": {"probes": 5, "hits": 4, "right": 2}}
    assert figures["false_hits"] == 2
    assert figures["lookup_ms"]["exact"]["p50"] == 1.0
    assert figures["lookup_ms"]["semantic"]["p50"] == 2.0
    assert figures["recipe"] == {"precision": 1.0, "hit_rate": 1.0}
    plot(run, tmp_path / "cache.svg", "cache")
    assert (tmp_path / "cache.svg").stat().st_size > 1000

"""The dashboard and the alert rules name only what a live server publishes, and the rules work."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.promql import names
from tests.harness import ROOT, unique
from tests.observability.collector import Scrape

FOLDER = ROOT / "k8s/components/observability"
OF_PROMETHEUS = {"le", "instance", "job"}


def _rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"]
    return list(group["rules"])


def _dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
    return found


def _expressions() -> Iterator[str]:
    for rule in _rules():
        yield rule["expr"]
    for panel in _dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield target["expr"]


def _labels() -> dict[str, set[str]]:
    """Return the labels of our metrics, as documented; another test compares that with a scrape."""
    text = (ROOT / "docs/observability.md").read_text()
    rows = re.findall(r"^\| `(recollect_\w+)` \| ([^|]*)\|", text, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def _promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    found = ROOT / ".tools/debian/usr/bin/promtool"
    program = str(found) if found.exists() else shutil.which("promtool")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("`make tools` must fetch promtool in CI")
        pytest.skip("needs promtool: `make tools` with apt-get")
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


def test_every_metric_and_label_of_dashboard_and_alerts_is_published(server, metrics):
    with server.client(unique("ada")) as client:
        client.memory.create_session(session_id="s")
        client.chat.send("s", "Hello")
    published, documented = Scrape(metrics).names(), _labels()
    for expression in _expressions():
        named, labels = names(expression)
        assert named <= published, expression
        known = set(OF_PROMETHEUS)
        for name in named:
            known |= documented.get(re.sub(r"_(bucket|count|sum)$", "", name), set())
            known |= documented.get(name, set())
        assert labels <= known, expression


def test_every_metric_is_on_the_dashboard():
    shown = set().union(*(names(expression)[0] for expression in _expressions()))
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}
    assert set(_labels()) <= shown


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ('sum by (a, b) (rate(m_total{c=~"x{y}"}[5m])) > 0.5', ({"m_total"}, {"a", "b", "c"})),
        ("a / on (i) b and c", ({"a", "b", "c"}, {"i"})),
        ("histogram_quantile(0.9, sum by (le) (rate(x_bucket{$I}[5m])))", None),
        ("sum(rate(x[5m])", None),
        ("1 + 2", None),
    ],
)
def test_expressions_are_read(expression, found):
    if found is None:
        with pytest.raises(ValueError, match=r"brackets|matcher|no metric"):
            names(expression)
    else:
        assert names(expression) == found


def test_each_alert_says_how_bad_it_is_and_what_to_do():
    rules = _rules()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert re.fullmatch(r"\d+m", rule["for"])
        assert all(rule["annotations"][name] for name in ("summary", "description"))


def test_the_rules_are_valid_and_fire_when_they_should():
    done = _promtool("check", "rules", str(FOLDER / "alerts.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    done = _promtool("test", "rules", str(FOLDER / "alerts_test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr
    tested = (FOLDER / "alerts_test.yaml").read_text()
    for rule in _rules():
        assert f"alertname: {rule['alert']}\n        exp_alerts:\n          - " in tested


def test_a_rule_that_is_wrong_does_not_pass(tmp_path):
    for name in ("alerts.yaml", "alerts_test.yaml"):
        shutil.copy(FOLDER / name, tmp_path)
    rules = Path(tmp_path / "alerts.yaml")
    rules.write_text(rules.read_text().replace("> 300", "> 400"))
    assert _promtool("test", "rules", str(tmp_path / "alerts_test.yaml")).returncode != 0


def test_the_dashboard_is_one_that_grafana_takes():
    dashboard = _dashboard()
    assert {"uid", "title", "panels", "schemaVersion", "templating"} <= set(dashboard)
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert 0 < place["w"] <= 24 - place["x"]
        if panel["type"] == "row":
            continue
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert [target["legendFormat"] for target in panel["targets"]]

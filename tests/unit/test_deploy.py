"""Dashboards and alerts name only metrics that workers export, and every alert has a test and an entry in the runbook."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_docs import heading_anchors
from workers.cli.metrics_doc import worker_families
from workers.stream import app as stream_app

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus" / "rules" / "recsys.yml"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
METRIC = re.compile(r"\b(?:recsys|process)_[a-z_]+\b")


@cache
def exported() -> frozenset[str]:
    """The names of all series that workers export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_app, "_calm_garbage_collector", lambda: None)
        patch.setattr(stream_app, "compile_lists", lambda *_: None)
        return frozenset(name for families in worker_families().values() for family in families for name in family.samples)


def panels(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))["panels"]
    return found


def alerts() -> list[str]:
    return re.findall(r"- alert: (\w+)", RULES.read_text("utf-8"))


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_a_dashboard_loads_and_asks_for_what_workers_export(path: Path) -> None:
    board, of_it = json.loads(path.read_text("utf-8")), panels(path)
    assert board["uid"] == path.stem and len({panel["id"] for panel in of_it}) == len(of_it) > 5
    for panel in of_it:
        assert panel["title"] and panel["targets"]
        for target in panel["targets"]:
            named = set(METRIC.findall(target["expr"]))
            assert named and named <= exported(), target["expr"]
        place = panel["gridPos"]
        assert place["x"] >= 0 and place["x"] + place["w"] <= 24


def test_no_two_panels_of_a_dashboard_lie_over_each_other() -> None:
    for path in DASHBOARDS:
        taken = set[tuple[int, int]]()
        for panel in panels(path):
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not cells & taken, (path.name, panel["title"])
            taken |= cells


def test_rules_name_what_workers_export() -> None:
    expressions = re.findall(r"expr: >-\n\s+(.+)", RULES.read_text("utf-8"))
    assert len(expressions) == len(alerts()) == len(set(alerts())) > 15
    for expression in expressions:
        named = set(METRIC.findall(expression))
        assert named <= exported() and (named or "up{" in expression), expression


def test_each_alert_has_an_entry_in_the_runbook_and_fires_in_a_test() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    assert set(re.findall(r"^## (\w+)$", runbook, re.M)) == set(alerts())
    links = re.findall(r"runbook_url: .*/docs/runbook\.md#(\S+)", RULES.read_text("utf-8"))
    assert links == [alert.lower() for alert in alerts()] and set(links) <= heading_anchors(runbook)
    fired = (DEPLOY / "prometheus" / "tests" / "recsys.yml").read_text("utf-8")
    assert set(re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n\s+- exp_labels", fired)) == set(alerts())

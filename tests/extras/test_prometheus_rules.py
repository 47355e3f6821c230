"""Expressions of rules and dashboards are PromQL on labels that exist; Prometheus's own tool checks the rules and fires each alert."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

pytest.importorskip("promql_parser", reason="promql-parser is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")

import promql_parser
import yaml

from tests.unit.test_deploy import DASHBOARDS, DEPLOY, RULES
from workers.cli.metrics_doc import worker_families

SCRAPED = {"job", "instance", "le"}
"""Labels that Prometheus and histograms add."""
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")


@cache
def labels() -> dict[str, frozenset[str]]:
    """Series ▸ the labels that it may have."""
    found = {"up": frozenset(SCRAPED)}
    for families in worker_families().values():
        for family in families:
            found |= {name: frozenset({*family.labels, *SCRAPED}) for name in family.samples}
    return found


def expressions() -> Iterator[str]:
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]:
        yield from (rule["expr"] for rule in group["rules"])
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            for target in panel["targets"]:
                yield target["expr"].replace("$__rate_interval", "5m").replace("$job", ".+")


def selectors(node: Any) -> Iterator[Any]:
    """Yield the selectors of series in an expression."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("lhs", "rhs", "expr", "vector_selector", "args"):
        inner = getattr(node, name, None)
        for each in inner if isinstance(inner, list) else [inner]:
            if each is not None and not callable(each):
                yield from selectors(each)


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_an_expression_is_promql_and_its_labels_exist(expression: str) -> None:
    found = list(selectors(promql_parser.parse(expression)))
    assert found, expression
    known = frozenset[str]().union(*(labels()[node.name] for node in found))
    for node in found:
        assert {matcher.name for matcher in node.matchers.matchers} <= labels()[node.name], expression
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        assert {label.strip() for label in grouped.split(",")} <= known, expression


def test_the_scrape_configuration_and_grafanas_provisioning_load() -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"] for job in scrape["scrape_configs"]}
    assert jobs == {"recsys-stream", "recsys-trainer", "recsys-gateway"}
    for path in (DEPLOY / "grafana" / "provisioning").rglob("*.yml"):
        assert yaml.safe_load(path.read_text("utf-8"))["apiVersion"] == 1


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is neither on PATH nor in PROMTOOL (Debian's package: prometheus)")
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("check", "rules", "rules/recsys.yml"), ("test", "rules", "tests/recsys.yml")]
)
def test_promtool_finds_nothing_wrong_and_every_alert_fires(arguments: tuple[str, ...]) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], cwd=DEPLOY / "prometheus", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


def test_compose_publishes_monitoring_on_the_loopback_interface_and_mounts_what_is_there() -> None:
    """The same without Docker; `tests/containers/test_monitoring.py` asks Compose itself."""
    services = yaml.safe_load((DEPLOY.parent / "docker-compose.yml").read_text("utf-8"))["services"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["monitoring"]
        assert services[name]["ports"] and all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
        mounts = [volume.split(":")[0] for volume in services[name]["volumes"] if volume.startswith(".")]
        assert mounts and all((DEPLOY.parent / mount).is_dir() for mount in mounts)
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    names = {name for job in scraped for name in job["dns_sd_configs"][0]["names"]}
    assert {"stream", "trainer"} <= names

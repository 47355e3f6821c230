"""A real Prometheus on 127.0.0.1 that evaluates the shipped rules with shorter times, and the table of what is shorter."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.unit.test_deploy import RULES, alerts
from workers.local.embedded import HOST, start_server

PROGRAM = os.environ.get("PROMETHEUS") or shutil.which("prometheus")
"""Prometheus, as Debian's package `prometheus` has it."""
SCRAPE_S = 1
"""Seconds between two scrapes of a target, and between two evaluations of the rules."""
FOR = {"2m": "4s", "5m": "4s", "10m": "5s", "15m": "6s", "30m": "6s"}
"""How long a condition must last, as the file has it ▸ in the test."""
RANGES = {"1m": "1s", "5m": "10s", "10m": "10s", "15m": "20s", "1h": "30s", "2h": "60s", "6h": "20s", "1d": "10m"}
"""Ranges and steps in expressions."""
AGES = {"3600": "30", "900": "20"}
"""Seconds since a process started, which are those of a range."""
BOUNDS = {
    "RecsysLagHigh": ("> 100000", "> 200"),
    "RecsysLagGrows": ("> 10000 ", "> 100 "),
    "RecsysListsStale": ("> 10", "> 6"),
    "RecsysQualityLow": ("> 1000", "> 20"),
    "RecsysGatewaySlow": ("> 0.1", "> 2.5"),  # a busy machine answers slowly too, and is not what is looked for
}
"""Bounds that need the load of a large system, or hours."""
STANDS = {"RecsysTrainingStands": ("> 21600", "> 5")}
"""A bound that a healthy test would cross too, so that it is shorter in its own scene alone."""
PATIENCE_S, FIRST_MODEL_S = 150.0, 400.0
"""How long something may take, and the first model on a busy machine, where loops may have to be compiled."""


def shortened(bounds: Mapping[str, tuple[str, str]] = BOUNDS) -> str:
    """Return the shipped rules with the times and bounds of the test. An expression changes in nothing else."""
    head, *rules = re.split(r"(?m)^(?=      - alert: )", RULES.read_text("utf-8"))
    names = alerts()
    made = [head]
    for name, rule in zip(names, rules, strict=True):
        short = re.sub(r"(?m)^( +for: )(\w+)$", lambda match: match[1] + FOR[match[2]], rule)
        short = re.sub(r"\[(\w+)(?::(\w+))?\]", lambda match: f"[{':'.join(RANGES[part] for part in match.groups() if part)}]", short)
        short = re.sub(r"(process_start_time_seconds < )(\d+)", lambda match: match[1] + AGES[match[2]], short)
        if name in bounds:
            before, after = bounds[name]
            assert len(re.findall(re.escape(before) + r"\b" * before[-1].isdigit(), short)) == 1, (name, before)
            short = short.replace(before, after)
        made.append(short)
    return "".join(made)


class Prometheus:
    """Scrapes the targets that it is given, job by job, and says which alerts fire."""

    def __init__(self, folder: Path) -> None:
        """Start it with the shortened rules and no target. Close it with `stop`."""
        assert PROGRAM is not None
        self._folder, self._targets = folder, folder / "targets"
        self._targets.mkdir(parents=True)
        self._rules = folder / "rules.yml"
        self._rules.write_text(shortened(), "utf-8")
        jobs = [
            {"job_name": f"recsys-{kind}", "file_sd_configs": [{"files": [f"{self._targets}/{kind}.json"], "refresh_interval": "1s"}]}
            for kind in ("stream", "trainer", "gateway")
        ]
        every = {"scrape_interval": f"{SCRAPE_S}s", "scrape_timeout": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
        config = {"global": every, "rule_files": [str(self._rules)], "scrape_configs": jobs}
        (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")  # JSON is YAML
        self.child, port = start_server("prometheus", self._command, folder / "prometheus.log")
        self._client = httpx.AsyncClient(base_url=f"http://{HOST}:{port}", timeout=30.0, trust_env=False)

    def _command(self, port: int) -> list[str | Path]:
        assert PROGRAM is not None
        return [
            PROGRAM,
            f"--config.file={self._folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self._folder / 'tsdb'}",
            f"--web.listen-address={HOST}:{port}",
            *("--web.enable-lifecycle", "--log.level=warn"),
        ]

    async def stop(self) -> None:
        await self._client.aclose()
        self.child.stop(10.0)

    def scrape(self, kind: str, ports: Iterable[int]) -> None:
        """Scrape these ports of 127.0.0.1 for a job, and no other, as if names were looked up again."""
        written = self._targets / f"{kind}.new"
        written.write_text(json.dumps([{"targets": [f"{HOST}:{port}" for port in ports]}]), "utf-8")
        written.replace(self._targets / f"{kind}.json")

    async def load(self, rules: str) -> None:
        """Evaluate other rules from now on."""
        self._rules.write_text(rules, "utf-8")
        (await self._client.post("/-/reload")).raise_for_status()

    async def _get(self, path: str, **parameters: str) -> Any:
        answer = await self._client.get(f"/api/v1/{path}", params=parameters)
        answer.raise_for_status()
        return answer.json()["data"]

    async def firing(self) -> dict[str, list[dict[str, str]]]:
        """Return the alerts that fire now ▸ the labels of each."""
        found: dict[str, list[dict[str, str]]] = {}
        for alert in (await self._get("alerts"))["alerts"]:
            if alert["state"] == "firing":
                found.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return found

    async def pending(self) -> set[str]:
        """Return the alerts whose condition holds, but not for long enough to fire."""
        return {alert["labels"]["alertname"] for alert in (await self._get("alerts"))["alerts"] if alert["state"] == "pending"}

    async def fired_within(self, seconds: int) -> set[str]:
        """Return the alerts that fired at some moment of the last seconds."""
        found = await self._get("query", query=f'count by (alertname) (count_over_time(ALERTS{{alertstate="firing"}}[{seconds}s]))')
        return {series["metric"]["alertname"] for series in found["result"]}

    async def value(self, expression: str) -> float | None:
        """Return the value of an expression that has one series, None where it has none."""
        found = (await self._get("query", query=expression))["result"]
        return float(found[0]["value"][1]) if found else None

    async def rules(self) -> dict[str, str]:
        """Return the alerts that it evaluates ▸ why one cannot be evaluated, empty where it can."""
        groups = (await self._get("rules"))["groups"]
        return {rule["name"]: rule.get("lastError", "") for group in groups for rule in group["rules"]}


def deadline(patience_s: float = PATIENCE_S) -> float:
    return time.monotonic() + patience_s

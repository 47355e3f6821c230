"""The profile `monitoring` is a valid compose file: Prometheus and Grafana on the loopback interface, with rules and dashboards mounted.

Their images are not run: the test reads what Compose makes of the file.
"""

from __future__ import annotations

import json

import pytest

from tests.containers.engine import ROOT, run

pytestmark = pytest.mark.containers


def test_monitoring_is_added_by_its_profile_alone_and_listens_on_the_loopback_interface() -> None:
    command = ("docker", "compose", "--profile", "monitoring", "config", "--format", "json")
    services = json.loads(run(*command))["services"]
    without = json.loads(run(*(part for part in command if part not in ("--profile", "monitoring"))))["services"]
    assert services.keys() - without.keys() == {"prometheus", "grafana"}
    for name in ("prometheus", "grafana"):
        assert [port["host_ip"] for port in services[name]["ports"]] == ["127.0.0.1"]
        for volume in services[name]["volumes"]:
            assert volume["type"] != "bind" or (volume["read_only"] and volume["source"].startswith(str(ROOT)))
    for worker in ("stream", "trainer"):
        assert services[worker]["environment"]["RECSYS_METRICS__PORT"] == "9100" and "ports" not in services[worker]
        assert services[worker]["networks"].keys() & services["prometheus"]["networks"].keys()

"""The chart's values name what exists; rendered, it is what the Kubernetes API takes, and its Pods are confined."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("yaml", reason="PyYAML is not installed")

import yaml

from tests.unit.test_docs import setting_paths
from workers.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "recsys"
SETS = ("small", "production", "gpu")
HELM = os.environ.get("HELM") or shutil.which("helm")
KUBERNETES = "1.31"
needs_helm = pytest.mark.skipif(HELM is None, reason="helm is neither on PATH nor in HELM")


def values(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return found


def given(name: str) -> dict[str, Any]:
    return values(CHART / "ci" / f"{name}-values.yaml")


@cache
def rendered(name: str, *options: str) -> tuple[dict[str, Any], ...]:
    """The objects that Helm makes of a set of values."""
    assert HELM is not None
    chosen = ["--kube-version", f"{KUBERNETES}.0", "-f", str(CHART / "ci" / f"{name}-values.yaml"), *options]
    command = [HELM, "template", "shop", str(CHART), *chosen]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each is not None)


def of_kind(objects: tuple[dict[str, Any], ...], kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in objects if each["kind"] == kind}


def pods(objects: tuple[dict[str, Any], ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in objects:
        spec = each.get("spec", {})
        spec = spec.get("jobTemplate", {}).get("spec", spec)
        if "template" in spec:
            yield each["metadata"]["name"], spec["template"]["spec"]


def paths(tree: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(tree, dict) and tree:
        for name, inner in tree.items():
            yield from paths(inner, f"{prefix}.{name}" if prefix else str(name))
    else:
        yield prefix


def test_the_chart_has_the_version_of_the_program() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert values(CHART / "Chart.yaml")["appVersion"] == version


@pytest.mark.parametrize("name", SETS)
def test_a_set_names_only_values_of_the_chart_and_settings_that_exist(name: str) -> None:
    defaults, mine = values(CHART / "values.yaml"), given(name)
    known = set(paths(defaults))
    free = {path for path in known if isinstance(_at(defaults, path), (dict, list))}
    variables = {f"RECSYS_{path}".upper().replace(".", "__") for path in setting_paths(Settings)}
    for path in paths(mine):
        if path.startswith("settings.") or ".settings." in path:
            assert path.rpartition(".")[2] in variables, path
        elif not any(path == place or path.startswith(f"{place}.") for place in free):
            assert path in known, path


def _at(tree: Any, path: str) -> Any:
    for name in path.split("."):
        tree = tree[name]
    return tree


def test_templates_name_settings_that_exist_and_no_secret_has_a_value_in_the_chart() -> None:
    variables = {f"RECSYS_{path}".upper().replace(".", "__") for path in setting_paths(Settings)}
    named = set[str]()
    for path in (CHART / "templates").iterdir():
        named |= set(re.findall(r"RECSYS_[A-Z_]+[A-Z]", path.read_text("utf-8")))
    assert named and named <= variables
    texts = "".join(path.read_text("utf-8") for path in CHART.rglob("*.yaml"))
    assert not re.search(r"password: \S|://[^/\s]+:[^/\s]+@", texts)


@needs_helm
@pytest.mark.parametrize("name", SETS)
def test_what_is_rendered_is_what_the_kubernetes_api_takes(name: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="kubernetes-validate is not installed")
    foreign = set()
    for each in rendered(name):
        if each["apiVersion"].partition("/")[0] in ("keda.sh", "monitoring.coreos.com"):
            foreign.add(each["kind"])
            continue
        validate.validate(each, KUBERNETES, strict=True)
    assert foreign == ({"ScaledObject", "ServiceMonitor"} if name == "production" else set())


@needs_helm
@pytest.mark.parametrize("name", SETS)
def test_every_pod_is_confined_and_bounded(name: str) -> None:
    for pod_name, pod in pods(rendered(name)):
        assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"], pod_name
        (container,) = pod["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] and not container["securityContext"]["allowPrivilegeEscalation"]
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
        assert container["resources"]["requests"]["cpu"] and container["resources"]["limits"]["memory"]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["volumes"]} and "tmp" in mounted
        names = [variable["name"] for variable in container["env"]]
        assert len(names) == len(set(names)), "no variable is given twice"


@needs_helm
@pytest.mark.parametrize("name", SETS)
def test_workers_have_probes_and_the_budget_the_policy_and_the_monitor_find_them(name: str) -> None:
    objects = rendered(name)
    deployments = of_kind(objects, "Deployment")
    for deployment in deployments.values():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        for probe, path in (("livenessProbe", "/live"), ("readinessProbe", "/ready"), ("startupProbe", "/live")):
            assert container[probe]["httpGet"]["path"] == path and container[probe]["httpGet"]["port"] in ports
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        (policy,) = of_kind(objects, "NetworkPolicy").values()
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    selected = [deployment["spec"]["selector"]["matchLabels"] for deployment in deployments.values()]
    for budget in of_kind(objects, "PodDisruptionBudget").values():
        assert budget["spec"]["selector"]["matchLabels"] in selected
    (job,) = of_kind(objects, "Job").values()
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == ["topics", "create"]


@needs_helm
def test_secrets_are_references_and_scaling_is_by_lag() -> None:
    objects = rendered("production")
    for _, pod in pods(objects):
        for variable in pod["containers"][0]["env"]:
            if re.search(r"PASSWORD|USERNAME|KEYS?$|REDIS__URL", variable["name"]):
                assert "value" not in variable and variable["valueFrom"]["secretKeyRef"]["name"], variable["name"]
    (scaled,) = of_kind(objects, "ScaledObject").values()
    assert scaled["spec"]["triggers"][0]["metadata"]["consumerGroup"] == Settings.model_construct().stream.group_id
    assert "replicas" not in of_kind(objects, "Deployment")["shop-recsys-stream"]["spec"], "the scaler decides"
    assert not of_kind(objects, "PersistentVolumeClaim"), "all is on S3"
    (scaler,) = of_kind(rendered("gpu"), "HorizontalPodAutoscaler").values()
    assert [metric["type"] for metric in scaler["spec"]["metrics"]] == ["External", "Resource"]
    (cron,) = of_kind(rendered("gpu"), "CronJob").values()
    container = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1 and container["args"] == ["models", "train"]


@needs_helm
def test_the_dashboard_is_off_by_default_and_finds_every_worker_where_the_policy_lets_it() -> None:
    assert not any(name.endswith("-dashboard") for each in SETS if each != "production" for name in of_kind(rendered(each), "Deployment"))
    assert not of_kind(rendered("small"), "Service")
    objects = rendered("small", "--set", "dashboard.enabled=true,dashboard.keysSecret=people")
    dashboard = of_kind(objects, "Deployment")["shop-recsys-dashboard"]["spec"]["template"]
    (container,) = dashboard["spec"]["containers"]
    given_to = {variable["name"]: variable for variable in container["env"]}
    assert given_to["RECSYS_GATEWAY__KEYS"]["valueFrom"]["secretKeyRef"] == {"name": "people", "key": "keys"}
    services = of_kind(objects, "Service")
    metrics = services["shop-recsys-metrics"]["spec"]
    assert given_to["RECSYS_DASHBOARD__WORKERS"]["value"] == f'["http://shop-recsys-metrics:{metrics["ports"][0]["port"]}"]'
    assert metrics["clusterIP"] == "None" and not of_kind(objects, "ServiceMonitor")
    for deployment in of_kind(objects, "Deployment").values():
        assert metrics["selector"].items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    labels, port = dashboard["metadata"]["labels"], container["ports"][0]["containerPort"]
    assert services["shop-recsys-dashboard"]["spec"]["selector"].items() <= labels.items()
    (policy,) = of_kind(objects, "NetworkPolicy").values()
    doors = {rule["ports"][0]["port"]: rule["from"] for rule in policy["spec"]["ingress"]}
    assert doors[port] == [{"podSelector": {}}]
    assert {"podSelector": {"matchLabels": labels}} in doors[metrics["ports"][0]["port"]]
    ways = [rule for rule in policy["spec"]["egress"] if rule["ports"][0]["port"] == metrics["ports"][0]["port"]]
    assert len(ways) == 1 and ways[0]["to"][0]["podSelector"]["matchLabels"] == policy["spec"]["podSelector"]["matchLabels"]


@needs_helm
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "gateway.enabled=true"), "gateway.keysSecret"),
        (("--set", "dashboard.enabled=true"), "dashboard.keysSecret"),
        (("--set", "kafka.securityProtocol=SASL_SSL"), "kafka.credentialsSecret"),
        (("--set", "stream.autoscaling.kind=vpa"), "none, hpa or keda"),
        (("--set", "trainer.kind=Job"), "Deployment, CronJob or none"),
    ],
)
def test_what_cannot_work_is_refused_with_the_value_to_set(options: tuple[str, ...], said: str) -> None:
    assert HELM is not None
    done = subprocess.run(
        [HELM, "template", "shop", str(CHART), "--kube-version", f"{KUBERNETES}.0", *options], capture_output=True, text=True, timeout=120
    )
    assert done.returncode != 0 and said in done.stderr


@needs_helm
def test_lint_finds_nothing() -> None:
    assert HELM is not None
    done = subprocess.run([HELM, "lint", "--strict", str(CHART)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "0 chart(s) failed" in done.stdout, done.stdout + done.stderr

"""S12: /live, /ready and /metrics say what is so, and nothing else is there."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge

from workers.errors import SettingsError
from workers.local.embedded import free_port
from workers.runtime import status as module
from workers.runtime.metrics import StreamMetrics, TrainerMetrics
from workers.runtime.status import WorkerStatus
from workers.runtime.status_server import StatusServer
from workers.settings import AlarmSettings, MetricsSettings


def get(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def served() -> Iterator[tuple[WorkerStatus, int]]:
    status, port = WorkerStatus(), free_port()
    server = StatusServer(status, MetricsSettings(port=port), max_stall_s=30.0)
    server.start()
    yield status, port
    server.stop()


def test_a_worker_is_ready_from_its_first_round_while_nothing_is_in_its_way(served: tuple[WorkerStatus, int]) -> None:
    status, port = served
    assert get(port, "/ready")[0] == 503
    status.round_ended()
    assert get(port, "/ready") == (200, '{"ready": true, "reasons": []}\n')
    status.block("round", "Redis did not answer")
    code, body = get(port, "/ready")
    assert code == 503 and json.loads(body)["reasons"] == ["Redis did not answer"]
    status.round_ended()
    assert get(port, "/ready")[0] == 200


def test_a_round_that_does_not_end_makes_a_worker_unready(served: tuple[WorkerStatus, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis hangs: no error comes for ten seconds, and no round ends."""
    status, port = served
    status.round_ended()
    monkeypatch.setattr(module, "ROUND_S", 0.0)
    code, body = get(port, "/ready")
    assert code == 503 and "last round" in body
    assert get(port, "/live")[0] == 200, "restarting helps nobody"


def test_a_loop_that_stands_still_is_not_live() -> None:
    status, port = WorkerStatus(), free_port()
    server = StatusServer(status, MetricsSettings(port=port), max_stall_s=0.0)
    server.start()
    try:
        assert get(port, "/live")[0] == 200, "before the loop has started"
        status.beat()
        code, body = get(port, "/live")
        assert code == 503 and "stood still" in body
    finally:
        server.stop()


@pytest.mark.parametrize("path", ["/", "/health", "/metricsx", "/live/", "/../etc/passwd", "/favicon.ico"])
def test_any_other_path_is_not_found(served: tuple[WorkerStatus, int], path: str) -> None:
    assert get(served[1], path)[0] == 404


def test_deferred_lists_make_a_worker_unready_until_it_has_caught_up() -> None:
    status = WorkerStatus()
    metrics = StreamMetrics(AlarmSettings(), status)
    status.round_ended()
    metrics.look({0: 500}, catching_up=True, n_deferring=0)
    assert status.reasons() == ["lists are deferred: 500 events behind"]
    metrics.look({0: 0}, catching_up=False, n_deferring=0)
    assert status.reasons() == []


@pytest.mark.parametrize("make", [lambda status: StreamMetrics(AlarmSettings(), status), TrainerMetrics])
def test_each_kind_of_worker_has_metrics(served: tuple[WorkerStatus, int], make: object) -> None:
    status, port = served
    assert get(port, "/metrics") == (200, "")
    make(status)  # type: ignore[operator]
    code, body = get(port, "/metrics")
    assert code == 200 and "# TYPE recsys_" in body


def test_metrics_are_those_of_the_registry_in_the_format_that_is_asked_for(served: tuple[WorkerStatus, int]) -> None:
    status, port = served
    status.registry = CollectorRegistry()
    Gauge("recsys_probe", "A number.", registry=status.registry).set(7)
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics?x=1", headers={"Accept": "application/openmetrics-text"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert "openmetrics" in answer.headers["Content-Type"] and b"recsys_probe 7.0" in answer.read()


def test_only_get_and_head_are_answered(served: tuple[WorkerStatus, int]) -> None:
    request = urllib.request.Request(f"http://127.0.0.1:{served[1]}/metrics", data=b"x", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=5)
    refused.value.close()
    assert refused.value.code == 501


def test_a_taken_port_and_a_wrong_host_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=r"^setting metrics\.port: 127\.0\.0\.1:\d+ cannot be listened on \(.+\): choose"):
            StatusServer(WorkerStatus(), MetricsSettings(port=port), max_stall_s=30.0).start()
    with pytest.raises(SettingsError, match=r"metrics\.port"):
        StatusServer(WorkerStatus(), MetricsSettings(port=free_port(), host="256.0.0.1"), max_stall_s=30.0).start()


def test_nothing_listens_without_a_port() -> None:
    server = StatusServer(WorkerStatus(), MetricsSettings(), max_stall_s=30.0)
    server.start()
    assert server.port is None

"""What ends under `recsys up` is started again, ever later while it keeps ending."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from workers.errors import Fatal
from workers.kafka.topics import TopicState
from workers.local.embedded import Child, EmbeddedStack
from workers.operations import local_stack
from workers.operations.local_stack import LONGEST_BACKOFF_S, LocalStack, Restarts
from workers.operations.topic_keeping import OtherPartitions
from workers.settings import Settings, load_settings


def test_waits_double_up_to_a_minute_and_start_over_after_a_minute_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_000.0
    monkeypatch.setattr(local_stack.time, "monotonic", lambda: now)
    restarts = Restarts()
    waits = []
    for _ in range(9):
        waits.append(restarts.ended())
        now += waits[-1]
        assert restarts.due_s == now
        restarts.started()
        assert restarts.due_s is None
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60] and max(waits) == LONGEST_BACKOFF_S
    now += 61
    assert restarts.ended() == 1


def stack_with(folder: Path, say: list[str]) -> LocalStack:
    """A stack that was never started, for children of our own."""
    return LocalStack(folder, say=say.append, n_workers=0, trainer=False)


class Broker:
    """Stands for one of a row of brokers that clients of an earlier one use before `recsys up` can."""

    def __init__(self) -> None:
        self.broker, self.n_started, self.bootstrap_servers, self.redis_url = self, 1, "127.0.0.1:9092", "redis://127.0.0.1/0"

    def stop(self, grace_s: float) -> None:
        pass

    def start_again(self, name: str) -> None:
        assert name == "broker"
        self.n_started += 1

    def settings(self, **sections: object) -> Settings:
        return load_settings()


@pytest.mark.parametrize("n_taken", [0, 2, local_stack.FILL_ATTEMPTS])
def test_a_broker_that_clients_used_first_is_started_again_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_taken: int) -> None:
    said: list[str] = []
    stack, broker = stack_with(tmp_path, said), Broker()
    stack.servers = broker  # type: ignore[assignment]

    def provision(settings: Settings) -> list[TopicState]:
        if broker.n_started <= n_taken:
            raise Fatal("topic recsys.recommendations has 4 partitions, topics.partitions is 8")
        return []

    async def restore(*_: object) -> int:
        return 7

    monkeypatch.setattr(local_stack, "provision", provision)
    monkeypatch.setattr(local_stack, "restore", restore)
    if n_taken < local_stack.FILL_ATTEMPTS:
        assert stack._restored() == ({}, 7) and broker.n_started == n_taken + 1 and len(said) == n_taken
        return
    with pytest.raises(Fatal, match=r"has 4 partitions.*stop the clients of this broker, such as a gateway"):
        stack._restored()
    assert broker.n_started == n_taken


def test_a_folder_with_other_partitions_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stack, broker = stack_with(tmp_path, []), Broker()
    stack.servers = broker  # type: ignore[assignment]

    async def restore(*_: object) -> int:
        raise OtherPartitions("the folder keeps topic t with 4 partitions")

    monkeypatch.setattr(local_stack, "provision", lambda settings: [])
    monkeypatch.setattr(local_stack, "restore", restore)
    with pytest.raises(OtherPartitions):
        stack._restored()
    assert broker.n_started == 1


def look_until(stack: LocalStack, done: object) -> None:
    deadline = time.monotonic() + 20
    while not done() and time.monotonic() < deadline:  # type: ignore[operator]
        stack.look()
        time.sleep(0.01)


def test_a_worker_that_can_never_start_is_said_with_its_code_and_last_line_and_tried_ever_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_stack, "FIRST_BACKOFF_S", 0.02)
    said: list[str] = []
    stack = stack_with(tmp_path, said)
    stack._keeper, stack._restarts["keeper"] = None, Restarts()
    command = ["sh", "-c", "echo first; echo 'recsys: stream.batch: [/too] large'; exit 2"]
    stack.servers.workers.append(Child.start("stream-0", command, tmp_path / "stream-0.log"))
    stack._restarts["stream-0"] = Restarts()
    look_until(stack, lambda: len(said) == 4)
    assert all("stream-0 ended with code 2 (recsys: stream.batch: [/too] large): starting it again in" in line for line in said)
    assert "until the cause is mended" in said[3] and "until the cause is mended" not in said[0]
    assert (tmp_path / "stream-0.log").read_text().count("first") >= 4, "its log goes on in one file"
    stack.stop()


def test_a_server_that_does_not_stay_up_ends_the_stack_with_one_line(tmp_path: Path) -> None:
    said: list[str] = []
    stack = stack_with(tmp_path, said)
    child = Child.start("valkey", ["sh", "-c", "echo no; exit 1"], tmp_path / "valkey.log")
    child.process.wait(10)
    for _ in range(local_stack.MAX_SERVER_RESTARTS):
        stack._check_server("valkey", child)
    with pytest.raises(Fatal, match=r"valkey does not stay up: its log .* ends with: no"):
        stack._check_server("valkey", child)


def test_a_folder_is_used_by_one_stack_at_a_time(tmp_path: Path) -> None:
    first, second = stack_with(tmp_path, []), stack_with(tmp_path, [])
    first._take_folder()
    with pytest.raises(Fatal, match="another `recsys up` uses"):
        second._take_folder()
    first.stop()
    second._take_folder()
    second.stop()


@pytest.mark.parametrize("folder", ["/proc/foo", "/dev/null/x"])
def test_a_folder_that_cannot_be_made_is_one_line(folder: str) -> None:
    with pytest.raises(Fatal, match="cannot be made"):
        EmbeddedStack(folder)


def test_visitors_have_a_list_unless_the_settings_say_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert stack_with(tmp_path / "a", [])._sections["lists"] == {"shared_every_s": 10.0}
    for chosen in ("0", "300"):
        monkeypatch.setenv("RECSYS_LISTS__SHARED_EVERY_S", chosen)
        assert "lists" not in stack_with(tmp_path / chosen, [])._sections


def test_a_dashboard_has_an_address_and_reads_the_figures_of_each_worker(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, say=lambda line: None, n_workers=2, trainer=True, dashboard=True)
    section = stack._sections["dashboard"]
    assert stack.dashboard_url == f"http://127.0.0.1:{section['port']}" and len(set(section["workers"])) == 3
    assert [f"http://127.0.0.1:{port}" for port in stack._metrics_ports if port] == section["workers"]
    assert LocalStack(tmp_path, say=lambda line: None, dashboard=False).dashboard_url is None
    stack.stop()


def test_a_port_for_metrics_of_the_settings_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECSYS_METRICS__PORT", "9100")
    stack = LocalStack(tmp_path, say=lambda line: None, dashboard=True)
    assert stack._sections["dashboard"]["workers"] == ["http://127.0.0.1:9100"] and not any(stack._metrics_ports)
    stack.stop()

"""The trainer as a process on a real broker: what it logs, trains, announces, and what a restart or a second trainer changes."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx
import pytest
from kafka import KafkaProducer

from schemas import ModelAnnouncement
from tests.announced import last_announcements
from tests.unit.recsys.models.model_cases import clustered
from tests.unit.workers.models.test_model_store import save
from tests.unit.workers.trainer.test_recipe_round import fashion
from workers.cli.app import run
from workers.client import EventPublisher
from workers.errors import Transient
from workers.kafka.connection import kafka_python_arguments
from workers.kafka.topics import provision
from workers.local.embedded import Child, free_port
from workers.models.announcements import announce, reconcile
from workers.models.store import open_model_store
from workers.settings import Settings, load_settings
from workers.trainer import catalogue_file
from workers.trainer.event_log import EventLog

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

DEADLINE_S = 240.0
T = TypeVar("T")
OPTIONS = {
    "ials": {"factors": 8, "epochs": 3, "unobserved_weight": 0.1, "regularisation": 0.003},  # given, so that none is searched for
    "sasrec": {"factors": 16, "window": 12, "max_epochs": 8, "learning_rate": 1e-2, "dropout": 0.0},
}


@pytest.fixture
def settings(sections: dict[str, Any]) -> Settings:
    """Quick models, a flush a second, and a round for every 1,000 new events."""
    sections["trainer"] |= {
        "kinds": ["ials", "sasrec"],
        "min_events": 800,
        "every_events": 1_000,
        "flush_s": 0.5,
        "options": OPTIONS,
        "tolerance": 0.9,
        "min_targets": 20,
        "every_s": 9_999,
    }
    made = load_settings(**sections)
    provision(made)
    return made


def publish(settings: Settings, first: int, last: int, *, ts_ms: int | None = None) -> None:
    """Events `first` to `last` − 1 of clustered users, by time; all at `ts_ms` if it is given."""
    made = clustered()
    order = sorted(range(len(made)), key=lambda i: int(made.ts_ms[i]))[first:last]
    with EventPublisher(settings) as publisher:
        for i in order:
            publisher.publish(
                event_id=f"e{i}",
                user_id=f"u{made.users[i]}",
                item_id=made.item_ids[made.items[i]],
                type="like",
                event_ts_ms=int(made.ts_ms[i]) if ts_ms is None else ts_ms,
            )


def start(stack: Any, env: dict[str, str]) -> Child:
    """A trainer with a log file of its own."""
    child: Child = stack.start_worker("trainer", env)
    return child


@contextmanager
def trainer(stack: Any, env: dict[str, str]) -> Iterator[Child]:
    child = start(stack, env)
    try:
        yield child
    finally:
        assert stack.embedded.stop_workers() == []


def until(child: Child, look: Callable[[], T | None], what: str) -> T:
    """What `look` answers once it answers something."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline and child.running:
        if (found := look()) is not None:
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what} did not come; the trainer said:\n{child.last_lines(30)}")


def announced(settings: Settings, versions: set[str]) -> dict[str, ModelAnnouncement] | None:
    """The last announcements, once they name these versions; None too where a busy broker does not say them in time."""
    try:
        last = asyncio.run(last_announcements(settings))
    except Transient:
        return None
    return last if {announcement.version for announcement in last.values()} == versions else None


def publish_nonsense(settings: Settings, n_records: int) -> None:
    producer = KafkaProducer(**kafka_python_arguments(settings), enable_idempotence=settings.kafka.idempotence)
    for n in range(n_records):
        producer.send(settings.topics.events, key=b"u", value=b"{" * n)
    producer.close()


def test_events_become_announced_models_and_a_restart_reads_and_announces_nothing_again(
    stack: Any, settings: Settings, worker_env: dict[str, str]
) -> None:
    publish_nonsense(settings, 40)
    publish(settings, 0, 1_600)
    store = open_model_store(settings)
    first = {"ials-000001", "sasrec-000001"}
    with trainer(stack, worker_env) as child:
        last = until(child, lambda: announced(settings, first), "the first models")
        for kind, announcement in last.items():
            assert announcement.serving is not None
            loaded = store.load_announced(announcement)
            assert loaded is not None and loaded.manifest.kind == kind
            assert announcement.trained_on.n_events == loaded.manifest.trained_on.n_events
    assert child.process.returncode == 0

    log = EventLog(settings.trainer.log_url)
    assert len(log.read()) == 1_600  # what cannot be read leaves no row, and stops nothing
    assert sum(log.next_offsets().values()) == 1_640
    assert len(log.segments()) == len(log.next_offsets())
    with trainer(stack, worker_env) as child:
        until(child, lambda: True if "trainer leads" in child.last_lines(50) else None, "the second term")
        publish(settings, 1_600, 2_800)
        second = until(child, lambda: announced(settings, {"ials-000002", "sasrec-000002"}), "the second models")
        assert second["ials"].champion is not None and second["ials"].champion.version == "ials-000001"
        assert "announced again" not in child.last_lines(200)
    assert len(EventLog(settings.trainer.log_url).read()) == 2_800


@pytest.mark.long
def test_of_two_trainers_one_leads_and_the_other_takes_over(stack: Any, settings: Settings, worker_env: dict[str, str]) -> None:
    worker_env["RECSYS_TRAINER__KINDS"] = '["ials"]'
    one = start(stack, worker_env)
    try:
        until(one, lambda: True if "trainer leads" in one.last_lines(50) else None, "a leader")
        two = start(stack, worker_env)
        publish(settings, 0, 900)
        until(one, lambda: announced(settings, {"ials-000001"}), "models")
        children = (one, two)
        leaders = [child for child in children if child.last_lines(200).count("training starts")]
        assert len(leaders) == 1
        leader = leaders[0]
        other = two if leader is one else one
        leader.process.kill()
        leader.process.wait(10)
        publish(settings, 900, 2_000)
        until(other, lambda: announced(settings, {"ials-000002"}), "models of the new leader")
    finally:
        stack.embedded.stop_workers()
    assert len(EventLog(settings.trainer.log_url).read()) == 2_000


@pytest.mark.long
def test_a_press_on_the_dashboard_trains_beside_the_trainer_and_the_page_says_what_the_gate_decided(
    stack: Any, settings: Settings, worker_env: dict[str, str]
) -> None:
    worker_env["RECSYS_TRAINER__KINDS"] = '["ials"]'
    publish(settings, 0, 900)
    with trainer(stack, worker_env) as child:
        until(child, lambda: announced(settings, {"ials-000001"}), "the first model")
        publish(settings, 900, 1_600)  # too few for the trainer to train by itself
        port = free_port()
        pages = stack.embedded.start_worker("dashboard", {**worker_env, "RECSYS_DASHBOARD__PORT": str(port)})
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20.0, trust_env=False) as client:

            def models() -> str | None:
                try:
                    return client.get("/models").text
                except httpx.TransportError:
                    return None

            assert "ials-000001" in until(pages, models, "the page of models")
            assert client.post("/api/training", json={}).status_code == 202
            assert client.post("/api/training", json={}).status_code == 409, "one at a time"
            until(child, lambda: announced(settings, {"ials-000002"}), "the model that was asked for")
            said = until(pages, lambda: page if (page := models()) and "ials-000002 · promoted" in page else None, "what the gate decided")
            assert "ials-000001" in said
        assert child.last_lines(500).count("training starts") == 1  # which of the two announces the second version first is open
    assert len(EventLog(settings.trainer.log_url).read()) == 1_600, "both wrote to the log, and nothing is there twice"


def test_a_promotion_that_was_never_announced_is_announced_by_the_next_leader(settings: Settings) -> None:
    store = open_model_store(settings)
    version = save(store).version
    store.promote("ials", version, reason="better")
    assert [str(correction) for correction in asyncio.run(reconcile(settings, store))] == [version]
    assert asyncio.run(reconcile(settings, store)) == []
    assert asyncio.run(last_announcements(settings))["ials"].reason == "better"


@pytest.mark.long
def test_events_of_one_time_end_no_trainer_and_a_forged_tombstone_is_undone_but_not_an_ordered_one(
    stack: Any, settings: Settings, worker_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """C25 and S6 on a broker: all events have one time; then somebody writes a tombstone to the models topic."""
    worker_env["RECSYS_TRAINER__KINDS"] = '["ials"]'
    publish(settings, 0, 1_600, ts_ms=1_763_200_000_000)
    with trainer(stack, worker_env) as child:
        last = until(child, lambda: announced(settings, {"ials-000001"}), "a model of events of one time")["ials"]
        assert last.action == "promoted" and last.trained_on.first_event_ts_ms == last.trained_on.last_event_ts_ms
        asyncio.run(announce(settings, [], retired=["ials"]))
        said = "the models topic contradicts the model store"  # which the trainer sees at once or within a quarter of a minute
        until(child, lambda: said in child.last_lines(50) or None, "a warning that it was restored")
        assert announced(settings, {"ials-000001"}) is not None
        for name, value in worker_env.items():
            monkeypatch.setenv(name, value)
        assert run(["models", "retire", "ials", "--reason", "odd lists"]) == 0
    store = open_model_store(settings)
    assert asyncio.run(reconcile(settings, store)) == [] and asyncio.run(last_announcements(settings)) == {}
    assert run(["models", "rollback", "ials"]) == 0
    assert asyncio.run(last_announcements(settings))["ials"].version == "ials-000001"


def test_models_can_be_listed_shown_promoted_and_rolled_back(
    settings: Settings, worker_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in worker_env.items():
        monkeypatch.setenv(name, value)

    def recsys(*arguments: str, code: int = 0) -> str:
        assert run(arguments) == code
        said = capsys.readouterr()
        return said.err if code else said.out

    store = open_model_store(settings)
    first, second = save(store).version, save(store).version
    recsys("models", "promote", first)
    done = json.loads(recsys("models", "promote", second, "--json"))
    assert done == {"kind": "ials", "version": second, "before": first, "changed": True, "action": "promoted"}
    listed = json.loads(recsys("models", "list", "--json"))
    assert [(row["version"], row["serving"]) for row in listed] == [(first, False), (second, True)]
    assert second in recsys("models", "list")
    assert json.loads(recsys("models", "show", first, "--json"))["n_items"] == 12
    back = json.loads(recsys("models", "rollback", "ials", "--reason", "odd lists", "--json"))
    assert (back["version"], back["before"]) == (first, second)
    last = asyncio.run(last_announcements(settings))["ials"]
    assert (last.action, last.version, last.reason) == ("rolled_back", first, "odd lists")
    assert last.serving is not None
    assert last.serving.version == first
    assert "no version served before" in recsys("models", "rollback", "ials", code=1)
    assert "six digits" in recsys("models", "show", "ials-9", code=1)


@pytest.mark.long
def test_training_now_decides_and_announces_beside_a_running_trainer_too(
    stack: Any, settings: Settings, worker_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (worker_env | {"RECSYS_TRAINER__KINDS": '["ials"]', "RECSYS_TRAINER__EVERY_EVENTS": "9999"}).items():
        monkeypatch.setenv(name, value)

    def train(*arguments: str, code: int = 0) -> str:
        assert run(["models", "train", *arguments]) == code
        return capsys.readouterr().out

    publish_nonsense(settings, 5)
    publish(settings, 0, 1_600)
    assert train().startswith("ials-000001: promoted, NDCG@10 ")
    assert announced(settings, {"ials-000001"}) is not None
    assert train() == "ials: skipped, no model because no event is newer than those the champion has seen\n"
    with trainer(stack, {**os.environ}) as child:
        until(child, lambda: True if "trainer leads" in child.last_lines(50) else None, "a leader")
        publish(settings, 1_600, 2_800)
        (result,) = json.loads(train("--kind", "ials", "--json"))
        assert (result["kind"], result["version"], result["champion"]) == ("ials", "ials-000002", "ials-000001")
        publish(settings, 2_800, 3_000)
        until(child, lambda: len(EventLog(settings.trainer.log_url).read()) >= 3_000 or None, "the last events in the log")
    assert len(EventLog(settings.trainer.log_url).read()) == 3_000, "two writers, and no event twice or missing"
    train("--kind", "sasrec", code=2)
    monkeypatch.setenv("RECSYS_TRAINER__OPTIONS", '{"ials": {"factors": 0}}')
    assert "ials: failed, no model because ials option factors" in train(code=1)


@pytest.mark.long
def test_a_recipe_is_trained_on_the_catalogue_of_the_topic_and_announced(
    settings: Settings, worker_env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"KINDS": ["recipe"], "OPTIONS": {"recipe": {"cases": 300, "searched": 0}}, "HOLDOUT": 0.2}
    for name, value in (worker_env | {f"RECSYS_TRAINER__{name}": json.dumps(value) for name, value in options.items()}).items():
        monkeypatch.setenv(name, value)
    with EventPublisher(settings) as publisher:
        for number in range(300):
            publisher.publish_item({"item_id": f"i{number}", "categories": [f"c{number % 7}"]})
        for number, (user_id, item_id, ts_ms) in enumerate(fashion(2_500)):
            publisher.publish(event_id=f"f{number}", user_id=user_id, item_id=item_id, type="like", event_ts_ms=ts_ms)
    monkeypatch.setattr("workers.trainer.catalogue_file._write", watched := Watched(catalogue_file._write))
    assert run(["models", "train"]) == 0
    assert capsys.readouterr().out.startswith("recipe-000001: promoted, NDCG@10 ")
    assert watched.n_entries == 300
    last = announced(settings, {"recipe-000001"})
    assert last is not None and last["recipe"].serving is not None
    stored = open_model_store(settings).load_announced(last["recipe"])
    assert stored is not None and stored.recipe.n_hidden >= 0


class Watched:
    """Counts what is written to the catalogue's file."""

    def __init__(self, write: Callable[..., None]) -> None:
        self._write, self.n_entries = write, 0

    def __call__(self, path: Any, entries: Any) -> None:
        self.n_entries += len(entries)
        self._write(path, entries)


def test_announcing_is_refused_by_no_broker_with_one_error(sections: dict[str, Any]) -> None:
    sections["kafka"] |= {"bootstrap_servers": "127.0.0.1:1", "request_timeout_ms": 500}
    with pytest.raises(Transient, match="models topic"):
        asyncio.run(announce(load_settings(**sections), []))


def test_a_training_process_that_gets_no_job_says_so(worker_env: dict[str, str]) -> None:
    command = [sys.executable, "-m", "workers.trainer.child"]
    done = subprocess.run(command, input="{", env=worker_env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 2
    assert "training job" in done.stderr and "Traceback" not in done.stderr
    assert os.linesep not in done.stdout

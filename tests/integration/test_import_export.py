"""From a CSV of anybody to lists, and back out as Parquet; the time that it takes is printed."""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests import forked
from tests.conftest import TestStack
from workers.kafka.offsets import group_lag
from workers.lists.reader import newest_list
from workers.settings import Settings

pytestmark = pytest.mark.slow
N_USERS, N_ITEMS, N_EVENTS = 60, 40, 1_500
DEADLINE_S = 120.0


def files_of_a_shop(folder: Path) -> tuple[Path, Path]:
    """Write a catalogue and orders with names of columns that a shop gives."""
    chance = random.Random(5)
    catalogue, orders = folder / "products.csv", folder / "orders.csv"
    rows = [f"P{n},Thing {n},{'Tea' if n % 2 else 'Coffee'},{n + 0.5}" for n in range(N_ITEMS)]
    catalogue.write_text("Product ID,Product Name,Category,Price\n" + "\n".join(rows) + "\n")
    lines = []
    for n in range(N_EVENTS):
        user = chance.randrange(N_USERS)
        item = chance.randrange(N_ITEMS // 2) * 2 + user % 2
        lines.append(f"C{user};P{item};{1_763_200_000 + n * 60};{chance.choice(['view', 'addtocart', 'order'])}")
    orders.write_text("Customer;Product;Timestamp;Action\n" + "\n".join(lines) + "\nC1;P1;never;view\n")
    return catalogue, orders


def recsys(env: dict[str, str], *arguments: str) -> Any:
    return forked.spawner().run_command({**env, "COLUMNS": "200"}, *arguments)


def test_a_csv_becomes_lists_and_everything_comes_out_again(
    stack: TestStack, settings: Settings, worker_env: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue, orders = files_of_a_shop(tmp_path)
    worker = stack.start_worker("stream", worker_env)
    try:
        started_s = time.monotonic()
        bad = tmp_path / "orders.csv.bad.jsonl"
        done = recsys(worker_env, "import", str(orders), str(catalogue), "--yes", "--json")
        imported_s = time.monotonic() - started_s
        assert done.returncode == 1, done.stderr
        reports = [json.loads(line) for line in done.stdout.splitlines()]
        assert [report.get("kind") for report in reports[::2]] == ["items", "events"]
        assert [(report["published"], report["bad"]) for report in reports[1::2]] == [(N_ITEMS, 0), (N_EVENTS, 1)]
        assert json.loads(bad.read_text())["row"]["Timestamp"] == "never"
        listed = None
        deadline = started_s + DEADLINE_S
        while (listed is None or sum(group_lag(settings, settings.stream.group_id, settings.topics.events).values())) and worker.running:
            assert time.monotonic() < deadline, worker.last_lines()
            listed = newest_list(settings, "C7")
            time.sleep(0.1)
        listed_s = time.monotonic() - started_s
        listed = newest_list(settings, "C7")
        assert listed is not None and len(listed.items) >= 10
        _check_exports(settings, worker_env, tmp_path)
        _check_status(worker_env)
    finally:
        stack.embedded.stop_workers()
    with capsys.disabled():
        print(f"\n{N_ITEMS} items and {N_EVENTS} events: imported in {imported_s:.1f} s, all lists after {listed_s:.1f} s")


def _check_exports(settings: Settings, env: dict[str, str], folder: Path) -> None:
    tables = {}
    for what in ("events", "lists", "state", "models", "items", "users"):
        out = folder / f"{what}.parquet"
        done = recsys(env, "export", what, "--out", str(out), "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["unreadable"] == 0
        tables[what] = pq.read_table(out).to_pylist()
        again = recsys(env, "export", what, "--out", str(out))
        assert again.returncode == 2 and "is there already" in again.stderr
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")], "nothing half-written is left"
    assert len(tables["events"]) == N_EVENTS
    assert {row["type"] for row in tables["events"]} == {"view", "add_to_cart", "purchase"}
    assert len({row["event_id"] for row in tables["events"]}) == N_EVENTS
    listed = newest_list(settings, "C7")
    assert listed is not None
    of_user = [row["item_id"] for row in tables["lists"] if row["user_id"] == "C7"]
    assert of_user == [item.item_id for item in listed.items], "the newest list, in its order"
    assert {row["user_id"] for row in tables["state"]} == {f"C{n}" for n in range(N_USERS)}
    bought = {(row["user_id"], row["item_id"]) for row in tables["events"]}
    assert {(row["user_id"], row["item_id"]) for row in tables["state"]} == bought
    assert tables["models"] == [] and tables["users"] == []
    assert {row["item_id"] for row in tables["items"]} == {f"P{n}" for n in range(N_ITEMS)}
    back = recsys(env, "import", str(folder / "events.parquet"), str(folder / "items.parquet"), "--dry-run", "--json")
    assert [json.loads(line)["would_publish"] for line in back.stdout.splitlines()[1::2]] == [N_ITEMS, N_EVENTS], back.stderr
    refused = recsys(env, "import", str(folder / "state.parquet"), "--dry-run")
    assert refused.returncode == 2 and "is an export of state" in refused.stderr


def _check_status(env: dict[str, str]) -> None:
    done = recsys(env, "status", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert found["workers"] == 1 and found["total_lag"] == 0 and found["lists"] >= N_USERS and found["items"] == N_ITEMS
    freshness = found["freshness_ms"]  # of lists that an event caused; a worker that starts on a full topic may make all without one
    assert min(freshness.values(), default=0) >= 0 and (freshness or "RECSYS_TEST_KAFKA" in os.environ)
    assert found["redis"][0]["used_mb"] > 0 and found["dead_letters"] == 0
    shown = recsys(env, "status")
    assert "1 stream worker, 1 broker" in shown.stdout and len(shown.stdout.splitlines()) <= 24

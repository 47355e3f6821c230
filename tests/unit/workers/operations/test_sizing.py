"""Estimates grow with what is asked, rest on the measured figures, and are those of the pages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from workers.operations.sizing import (
    BYTES_PER_USER,
    LINE_EVENTS_PER_S,
    LIST_RATES,
    STATE_EVENTS_PER_S,
    Load,
    Prices,
    estimate,
    list_rate,
    main,
    steps,
    table,
)

DOCS = Path(__file__).resolve().parents[4] / "docs"
LARGE = Load(50_000, 100_000_000, 1_000_000)


@pytest.mark.parametrize(
    ("row", "figure"),
    [
        ("state path, MovieLens 1M, events/s", STATE_EVENTS_PER_S),
        ("lists/s, 4 thousand items, all sources", LIST_RATES[0][1]),
        ("lists/s, 1 million items, two threads", 2 * LIST_RATES[1][1]),
        ("Redis bytes a user, history 100, embedding 64", BYTES_PER_USER),
    ],
)
def test_figures_are_those_that_were_measured_within_what_the_machine_varies(row: str, figure: float) -> None:
    """`make bench` writes others each time; the machine's speed changes by a factor of two."""
    found = re.search(rf"^\| {re.escape(row)} \| ([\d,]+) \|", (DOCS / "performance.md").read_text("utf-8"), re.M)
    assert found is not None and 0.5 <= float(found[1].replace(",", "")) / figure <= 2.0


def test_the_whole_line_was_measured_at_half_of_its_maximum() -> None:
    assert f"{LINE_EVENTS_PER_S // 2:,}" in (DOCS / "performance.md").read_text("utf-8")


def test_the_rate_of_lists_passes_through_both_measurements_and_falls_beyond() -> None:
    for items, rate in LIST_RATES:
        assert list_rate(items) == pytest.approx(rate)
    assert list_rate(10) == LIST_RATES[0][1] and list_rate(10_000_000) < LIST_RATES[1][1]


@pytest.mark.parametrize("field", ["events_per_s", "users", "items"])
def test_more_of_anything_never_needs_less(field: str) -> None:
    base = {"events_per_s": 2_000, "users": 1_000_000, "items": 100_000}
    before, after = (estimate(Load(**{**base, field: base[field] * factor})) for factor in (1, 10))  # type: ignore[arg-type]
    for name in ("cores", "workers", "partitions", "redis_gb", "worker_gb", "kafka_gb"):
        assert getattr(after, name) >= getattr(before, name)
    assert after != before


def test_partitions_leave_room_to_grow_and_are_a_power_of_two() -> None:
    for events in (1, 300, 4_000, 90_000):
        found = estimate(Load(events, 1_000, 1_000))
        assert found.partitions >= max(8, 4 * found.workers) and found.partitions & (found.partitions - 1) == 0
        assert found.cores >= 2 and found.workers <= found.cores


def test_a_price_is_the_sum_of_its_parts() -> None:
    found = estimate(LARGE)
    assert found.price(Prices()) == 0
    assert found.price(Prices(2.0, 3.0, 5.0, 0.5)) == pytest.approx(
        2 * found.cores + 3 * found.redis_gb + 5 * found.workers * found.worker_gb + 0.5 * found.kafka_gb
    )


def test_the_pages_show_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--table"]) == 0
    assert capsys.readouterr().out == table() and table() in (DOCS / "kubernetes.md").read_text("utf-8"), "paste `--table` again"
    assert steps(LARGE) in (DOCS / "growth.md").read_text("utf-8"), "paste `--steps` again"


def test_the_command_prints_an_estimate_and_refuses_nonsense(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--events", "5000", "--users", "10000000", "--items", "500000", "--core-month", "25"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["price_a_month"] == 25 * said["cores"] and said["users"] == 10_000_000
    for wrong in (["--events", "0"], ["--utilisation", "1.5"], ["--items", "-1"]):
        with pytest.raises(SystemExit):
            main(wrong)
    assert wrong[0].removeprefix("--") in capsys.readouterr().err

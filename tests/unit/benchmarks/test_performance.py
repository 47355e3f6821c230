"""`make bench` marks missed targets and writes only between its markers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import machine_speed, performance


@pytest.fixture(autouse=True)
def _a_machine_of_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance, "speed", lambda: 1.0)


MACHINE = {"cpus": 2, "cpu_model": "x", "memory_gib": 1, "python": "3", "versions": {"numpy": "2"}, "load_1m": 0.1}


def figures(**of_ingest: float) -> dict[str, dict[str, Any]]:
    return {"ingest": {"machine": MACHINE, "command": "python -m benchmarks.ingest", "took_s": 1, "stream_name": "s", **of_ingest}}


def test_a_figure_below_what_must_be_reached_is_marked() -> None:
    table = performance.table(figures(state_events_per_s=39_999, ratio_to_naive=31))
    marked = [line for line in table.splitlines() if "short" in line]
    assert len(marked) == 1 and "39,999" in marked[0]


def test_less_is_better_where_it_is() -> None:
    slow = next(target for target in performance.TARGETS if "p99" in target.what)
    assert slow.ratio(2 * slow.least) == 0.5 and slow.ratio(slow.aim) > 1


def test_only_what_is_between_the_markers_changes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{performance.START}\nold\n{performance.END}\nafter\n")
    performance.write(figures(state_events_per_s=50_000), document)
    text = document.read_text()
    assert text.startswith(f"before\n{performance.START}\n") and text.endswith(f"{performance.END}\nafter\n")
    assert "old" not in text and "50,000" in text and (tmp_path / "plots" / "targets.svg").exists()


def test_a_document_without_markers_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("nothing to replace\n")
    with pytest.raises(ValueError, match="markers"):
        performance.write({}, document)
    assert document.read_text() == "nothing to replace\n"


def test_check_ends_with_1_when_something_judged_is_below_its_least_and_the_real_server_is_what_is_judged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {
        "freshness": {"machine": MACHINE, "command": "c", "took_s": 1, "p50_ms": 90, "p99_ms": 300},
        "freshness-kafka": {"machine": MACHINE, "command": "c", "took_s": 1, "p50_ms": 20, "p99_ms": 60},
    }
    monkeypatch.setattr(performance, "run", lambda name, _: measured[name])

    def ends_with(*names: str) -> int:
        monkeypatch.setattr("sys.argv", ["performance", "--check", "--only", *names])
        return performance.main()

    assert ends_with("freshness") == 1
    assert "embedded broker, p50" in capsys.readouterr().err
    assert ends_with("freshness", "freshness-kafka") == 0
    measured["freshness-kafka"]["p99_ms"] = 101
    assert ends_with("freshness", "freshness-kafka") == 1
    assert "Apache Kafka, p99" in capsys.readouterr().err


def test_a_real_server_is_measured_in_place_of_the_embedded_one_and_in_the_long_form_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KAFKA_HOME", raising=False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    embedded = set(performance.SHORT) - {"freshness-kafka", "scale-redis"}
    assert set(performance.usual(full=False)) == embedded
    assert set(performance.usual(full=True)) == embedded | {"recovery"}
    monkeypatch.setenv("KAFKA_HOME", "/opt/kafka")
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/redis-server")
    assert set(performance.usual(full=False)) == set(performance.SHORT) - {"freshness", "scale"}
    assert set(performance.usual(full=True)) == set(performance.FULL)


@pytest.mark.parametrize(("minutes", "code"), [(9.9, 0), (10.1, 1)])
def test_a_short_set_that_is_not_short_is_judged_like_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], minutes: float, code: int
) -> None:
    times = iter((0.0, 60 * minutes))
    monkeypatch.setattr(performance.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(performance, "usual", lambda **_: ["ingest"])
    monkeypatch.setattr(performance, "run", lambda *_: figures(state_events_per_s=50_000)["ingest"])
    monkeypatch.setattr("sys.argv", ["performance", "--check"])
    assert performance.main() == code
    said = capsys.readouterr()
    assert f"| the short set of benchmarks, minutes | {minutes:.3g} |" in said.out
    assert ("the short set" in said.err) == bool(code)


@pytest.mark.parametrize(("machine", "code", "said"), [(1.0, 1, "**short**"), (0.5, 0, "machine at 0.50"), (2.0, 1, "**short**")])
def test_limits_of_speed_are_those_of_a_machine_as_fast_as_this_one_and_ratios_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], machine: float, code: int, said: str
) -> None:
    monkeypatch.setattr(performance, "speed", lambda: machine)
    monkeypatch.setattr(performance, "run", lambda *_: figures(state_events_per_s=21_000)["ingest"])
    monkeypatch.setattr("sys.argv", ["performance", "--check", "--only", "ingest"])
    assert performance.main() == code and said in capsys.readouterr().out
    monkeypatch.setattr(performance, "run", lambda *_: figures(ratio_to_naive=29)["ingest"])
    assert performance.main() == 1, "a ratio is judged as it is"


@pytest.mark.parametrize(("ended", "said"), [(0, 1.5), (2, None)])
def test_the_speed_of_a_machine_is_that_of_the_naive_agent_beside_the_one_of_the_limits(
    monkeypatch: pytest.MonkeyPatch, ended: int, said: float | None
) -> None:
    line = json.dumps({"naive_events_per_s": 1.5 * machine_speed.NAIVE_EVENTS_PER_S})
    monkeypatch.setattr(
        machine_speed.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, ended, f"a table\n{line}\n")
    )
    if said is None:
        with pytest.raises(RuntimeError, match=f"ended with {ended}"):
            machine_speed.speed()
    else:
        assert machine_speed.speed() == said


def test_a_benchmark_that_cannot_run_takes_no_other_figures_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(name: str, _: object) -> dict[str, Any]:
        if name == "train":
            raise RuntimeError("it ended with 2")
        return figures(state_events_per_s=50_000)["ingest"]

    monkeypatch.setattr(performance, "run", run)
    monkeypatch.setattr(performance, "usual", lambda **_: ["train", "ingest"])
    monkeypatch.setattr(performance, "write", lambda *_: pytest.fail("half of the figures must not replace all"))
    monkeypatch.setattr("sys.argv", ["performance", "--write"])
    assert performance.main() == 1
    said = capsys.readouterr()
    assert "50,000" in said.out and "no figures of: train (it ended with 2); nothing is written" in said.err


def test_an_unknown_speed_of_the_machine_takes_no_figures_with_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown() -> float:
        raise RuntimeError("it ended with 2")

    monkeypatch.setattr(performance, "speed", unknown)
    monkeypatch.setattr(performance, "run", lambda *_: figures(state_events_per_s=50_000)["ingest"])
    monkeypatch.setattr("sys.argv", ["performance", "--only", "ingest"])
    assert performance.main() == 1
    said = capsys.readouterr()
    assert "50,000" in said.out and "no figures of: machine_speed (it ended with 2)" in said.err

"""The demo on made-up tastes: the whole system as child processes, retraining and swapping while events stream, none of it left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import psutil
import pytest
from rich.console import Console

from workers.demo.input import DemoInput, Rating
from workers.demo.interruption import Interruption
from workers.demo.report import Narrator
from workers.demo.run import play, run_demo
from workers.demo.session import judge
from workers.local.embedded import die_with_parent
from workers.local.processes import left_over

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("has_servers")]
N_TASTES, N_ITEMS, N_USERS, N_RATINGS = 5, 150, 260, 5_000
START_MS = 1_600_000_000_000


def clustered_tastes() -> DemoInput:
    """Every user rates items of one taste with five stars, some of another with one star, none twice, users overlapping in time."""
    random = np.random.default_rng(3)
    items = {
        f"i{n}": {"item_id": f"i{n}", "title": f"Item {n}", "categories": [f"taste {n % N_TASTES}"], "published_ts_ms": 1_500_000_000_000}
        for n in range(N_ITEMS)
    }
    open_lists: dict[str, list[tuple[str, float]]] = {}
    ratings: list[Rating] = []
    n_users = 0
    while len(ratings) < N_RATINGS:
        while len(open_lists) < 8:
            taste = int(random.integers(N_TASTES))
            liked = [(f"i{n}", 5.0) for n in range(taste, N_ITEMS, N_TASTES)]
            disliked = [(f"i{n}", 1.0) for n in random.permutation(N_ITEMS)[:4] if n % N_TASTES != taste]
            chosen = [*liked, *disliked]
            open_lists[f"u{n_users}"] = [chosen[at] for at in random.permutation(len(chosen))[:20]]
            n_users += 1
        user = sorted(open_lists)[int(random.integers(len(open_lists)))]
        item, value = open_lists[user].pop()
        if not open_lists[user]:
            del open_lists[user]
        ratings.append(Rating(user, item, value, START_MS + 60_000 * len(ratings)))
    return DemoInput("made-up tastes", items, ratings)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_the_trainer_retrains_and_the_worker_swaps_while_events_stream(tmp_path: Path) -> None:
    said = StringIO()
    narrator = Narrator(Console(file=said, width=120))
    outcome = play(clustered_tastes(), tmp_path, narrator, rate=75.0, kinds=["ials"], factors=8, tolerance=0.9, min_targets=5)
    judge(outcome)
    figures = outcome.as_json()
    assert figures["retrainings_while_streaming"] >= 1 and figures["live_swaps"]
    assert figures["hit_rate_at_10"] > figures["hit_rate_at_10_popularity"] and figures["n_scored"] > 700
    assert 0 < figures["freshness_p50_ms"] <= figures["freshness_p99_ms"] < 10_000
    assert figures["paced_events_per_s"] > 0 and figures["paced_lists_per_s"] > 0
    assert figures["models"][0]["action"] == "promoted"
    assert "because you watched" in said.getvalue() and "processes ended, none left" in said.getvalue()


RUN = """
import signal, sys
from pathlib import Path
from tests.integration.test_demo import clustered_tastes
from workers.demo import run as demo
signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell starts in the background ignores it
demo.movielens_input = lambda cache, n_events, say: clustered_tastes()
sys.exit(demo.run_demo(folder=Path(sys.argv[1])))
"""


def test_ctrl_c_stops_every_process_and_exits_with_130(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, preexec_fn=die_with_parent()) as run:
        try:
            assert run.stdout is not None
            for line in run.stdout:
                if "starting broker" in line:  # everything runs now
                    break
            children = _children(run.pid)
            assert len(children) == 4
            run.send_signal(signal.SIGINT)
            said, complaint = run.communicate(timeout=180)
        except BaseException:
            run.kill()
            raise
    assert run.returncode == 130, complaint
    assert "processes ended, none left" in said and "interrupted" in complaint and "Traceback" not in complaint
    assert left_over(children) == []


def test_a_signal_that_a_library_keeps_to_itself_ends_the_demo_at_its_next_look() -> None:
    interruption = Interruption()
    with interruption.listening():
        interruption.check()
        with contextlib.suppress(KeyboardInterrupt):  # as in a finaliser
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            interruption.check()


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


def test_wrong_arguments_are_one_line_and_start_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_demo(n_events=10) == 2 and run_demo(rate=0.0) == 2
    said = capsys.readouterr()
    assert said.out == "" and len(said.err.splitlines()) == 2

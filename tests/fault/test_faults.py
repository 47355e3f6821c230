"""Faults of every kind leave no difference from the fold of the log. `make test` runs a few rounds, `make test-faults` each scenario on
each lane once; `python -m benchmarks.faults` runs as many as wanted."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from benchmarks.faults import Tally, run_rounds, runnable
from tests.fault.fault_plan import POINTS
from tests.fault.harness import state_differences
from tests.fault.lanes import FaultLane, kafka_home
from tests.fault.logs import ERASURES, fault_log
from tests.fault.registry import SCENARIOS, LaneName
from tests.fold import Fact, State
from workers.kafka.partitioner import partition_for

EVERYTHING = os.environ.get("RECSYS_TEST_FAULTS") == "all"
FEW = ("kill_between_groups", "kill_after_users", "zombie", "redis_lost_with_hidden_items", "redis_failover", "proxy_drops_reply")
SEED = 1


@pytest.fixture(scope="module", params=["embedded", "kafka"] if EVERYTHING else ["embedded"])
def lane(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultLane]:
    name: LaneName = request.param
    if name == "kafka" and kafka_home() is None:
        pytest.skip("KAFKA_HOME names no Apache Kafka, or there is no java on the PATH")
    with FaultLane(name, tmp_path_factory.mktemp("faults")) as running:
        yield running


@pytest.mark.slow
@pytest.mark.timeout(3_600 if EVERYTHING else 900)
async def test_faults_leave_no_difference_from_the_fold_of_the_log(lane: FaultLane) -> None:
    tally = Tally()
    entries = runnable(lane, () if EVERYTHING else FEW)
    await run_rounds(lane, entries, len(entries), SEED, tally)
    assert tally.rounds == len(entries)
    assert not tally.failures, "\n".join(tally.failures)


def test_states_are_compared_place_by_place() -> None:
    of_one = State()
    of_one.windows["u1"] = ["a", "b"]
    assert state_differences(State(), State()) == []
    assert state_differences(State(), of_one) == ["windows differs in 1 of 1 places: u1: None instead of ['a', 'b']"]


def test_every_point_of_a_batch_has_its_scenario() -> None:
    assert {f"kill_{point}" for point in POINTS} <= set(SCENARIOS)


def test_the_same_seed_gives_the_same_log_and_it_has_everything() -> None:
    logs = [fault_log(random.Random("seed"), 400, n_users=12, n_items=30, partitions=4, erasures=ERASURES) for _ in range(2)]
    assert logs[0] == logs[1]
    facts: list[Fact] = [record.fact for record in logs[0] if record.fact is not None]
    newest = {fact.user_id: fact.erases for fact in facts}
    assert any(fact.erases and not newest[fact.user_id] for fact in facts), "nobody comes back"
    assert {"rating", "dislike", "play"} <= {fact.type for fact in facts}
    assert len(facts) < len(logs[0]), "no poison"
    assert len({fact.event_id for fact in facts}) < len(facts), "no duplicates"
    assert any(later.event_ts_ms < earlier.event_ts_ms for earlier, later in pairwise(facts)), "nothing late"
    assert all(record.partition == partition_for(record.key, 4) for record in logs[0])
    poison = [record.value for record in logs[0] if record.fact is None]
    assert len(set(poison)) == len(poison)

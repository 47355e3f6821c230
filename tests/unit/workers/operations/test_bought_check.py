"""The second opinion on what is bought together: it agrees with the oracle and the workers on every log, and sees every change."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from recsys.state.bought import BOUGHT, BUYERS, USERS, bought_row, compacted, signed_sums
from recsys.state.item_row import pack_header, pack_records
from tests.builders import TOPIC_ID, opened_pipeline, random_log, records_of, run_log, small_settings
from tests.fold import fold
from tests.memory_store import MemoryStore
from tests.unit.workers.operations.test_item_check import BusyStore, differences, everywhere, folded
from workers.operations.bought_fold import bought_difference

SETTINGS = small_settings(related={"bought_together": True, "event_types": ("purchase", "play"), "items_per_user": 4})


@given(st.integers(0, 10_000), st.integers(1, 160))
@examples(max_examples=15, deadline=None)
async def test_the_fold_agrees_with_the_oracle_and_the_workers_on_any_log(seed: int, n_events: int) -> None:
    store, log = MemoryStore(), random_log(seed, n_events, erasures=0.03)
    await run_log(log, SETTINGS, store)
    names = await store.item_names()
    numbers = {name: number for number, name in enumerate(names)}
    expected = fold(log, SETTINGS)
    items = folded(log, SETTINGS, numbers, everywhere(log, numbers, SETTINGS.state.item_groups))
    assert items.bought is not None
    of_pairs = {names[n]: {names[o]: count for o, count in counts.items() if count} for n, counts in items.bought.pairs.items()}
    assert {name: counts for name, counts in of_pairs.items() if counts} == expected.bought
    users: Counter[str] = Counter()
    for number, count in items.bought.users.items():
        users["" if number < 0 else names[number]] += count
    assert +users == expected.buyers
    assert (await differences(store, SETTINGS, log))[0] == []


async def test_each_count_is_compared_as_of_the_moment_it_was_read() -> None:
    log, store = random_log(8, 160), BusyStore()
    store.pipeline = await opened_pipeline(store, SETTINGS, ranks=False)
    await store.pipeline.assign(list(log), TOPIC_ID)
    await store.pipeline.process({partition: records_of(facts[:50]) for partition, facts in log.items()})
    store.rest = {partition: records_of(facts[50:], 50) for partition, facts in log.items()}
    lines, _ = await differences(store, SETTINGS, log)
    assert lines == [] and len(store.rest[0]) < len(log[0]) - 50, "the state moved on between two reads"


async def test_every_changed_count_is_seen_and_named() -> None:
    store, log = MemoryStore(), random_log(3, 60)
    await run_log(log, SETTINGS, store)
    names = await store.item_names()
    rows = {address: row for address, row in store._rows.items() if address[1][0] in (BOUGHT, BUYERS) and len(signed_sums(row)[0])}
    assert {row_id[0] for _, row_id in rows} == {BOUGHT, BUYERS}
    for address, row in rows.items():
        title = f"bought together with item '{names[address[1][2]]}'" if address[1][0] == BOUGHT else f"item group {address[0]}"
        for changed in (row[:-1], row + pack_records([0], [1]), row + pack_records([0], [0xFFFF_FFFF])):
            store._rows[address] = changed
            lines, _ = await differences(store, SETTINGS, log)
            assert len(lines) == 1 and title in lines[0], lines
        del store._rows[address]
        lines, _ = await differences(store, SETTINGS, log)
        assert len(lines) == 1 and title in lines[0] and "recsys state rebuild" in lines[0]
        store._rows[address] = row


def test_a_compacted_row_says_the_same_and_a_cut_one_never_more() -> None:
    row = pack_header(1, 0) + pack_records([7, 3, 9, 3, 7, 5, USERS], [1, 1, 1, 1, 0xFFFF_FFFF, 1, 2])
    assert [column.tolist() for column in signed_sums(row)] == [[3, 5, 9, USERS], [2, 1, 1, 2]]
    whole = pack_header(2, 0) + compacted(row, 100)
    assert [column.tolist() for column in signed_sums(whole)] == [[3, 5, 9, USERS], [2, 1, 1, 2]]
    cut = pack_header(2, 0) + compacted(row, 3)
    assert [column.tolist() for column in signed_sums(cut)] == [[3, 5, USERS], [2, 1, 2]]
    afterwards = cut + pack_records([9], [0xFFFF_FFFF])  # a user leaves a pair that was cut
    assert [column.tolist() for column in signed_sums(pack_header(3, 0) + compacted(afterwards, 3))] == [[3, 5, USERS], [2, 1, 2]]
    assert bought_difference(cut, {3: 2, 5: 1, 9: 1, USERS: 2}, crowded=True) is None
    assert bought_difference(cut, {3: 1, 5: 1, 9: 1, USERS: 2}, crowded=True) is not None
    assert bought_row(3) == ("bought", 0, 3)

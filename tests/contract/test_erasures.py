"""Users who are erased, on the fake and on Redis alike."""

from __future__ import annotations

from workers.state.port import StateStore, UserCommit

TOPIC = "t"
ROWS = {"u": b"u", "v": b"v"}


async def filled(store: StateStore) -> None:
    await store.commit_users([UserCommit(0, TOPIC, -1, 9, ROWS, {0: b"12345678"}, ("u", "v"), 5, ROWS, ROWS)])
    await store.await_lists({0: ["u", "v"]})


async def all_of(store: StateStore, user_id: str) -> list[bytes | None]:
    request = {0: [user_id]}
    return [(await read(request))[0][0] for read in (store.read_users_of, store.read_shown_of, store.read_bought_of)]


async def test_all_rows_of_an_erased_user_go_with_the_watermark_and_those_of_others_stay(store: StateStore) -> None:
    await filled(store)
    (result,) = await store.commit_users([UserCommit(0, TOPIC, 9, 12, {"w": b"w"}, {0: b"abcdefgh"}, ("w",), 7, erased=["u", "never was"])])
    assert result.committed and result.current == (TOPIC, 12)
    assert await all_of(store, "u") == [None] * 3 and await all_of(store, "v") == [b"v"] * 3
    assert (await store.read_users(0, ["w"])) == [b"w"] and await store.read_duplicates(0, [0]) == [b"12345678abcdefgh"]
    assert sorted(await store.owed_lists(0, 9)) == ["v", "w"] and await store.lists_asked(0, ["u", "v"]) == [0, 1]
    assert (await store.event_times([0]))[0] == 7


async def test_a_worker_that_lost_the_partition_erases_nobody(store: StateStore) -> None:
    await filled(store)
    assert not (await store.commit_users([UserCommit(0, TOPIC, 5, 12, {}, erased=["u"])]))[0].committed
    assert await all_of(store, "u") == [b"u"] * 3 and sorted(await store.owed_lists(0, 9)) == ["u", "v"]

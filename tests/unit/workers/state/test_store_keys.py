"""Invariants of key names and of the function library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys.state.batch_delta import RowId
from tests.redis_keys import key_patterns, slot_of
from workers.bootstrap import open_store
from workers.redis.functions import READ_ONLY, WRITING, load_library
from workers.redis.keys import Keys
from workers.redis.store import RedisStore
from workers.settings import load_settings
from workers.state.layout import layout_of
from workers.state.port import LAYOUT_VERSION, Layout, StateStore


@pytest.mark.parametrize("namespace", ["rs", "a.b-c_1"])
def test_keys_of_one_tag_lie_in_one_slot(namespace: str) -> None:
    tags = set()
    for tag, keys in key_patterns(Keys(namespace), groups=8, partitions=8):
        assert {slot_of(key) for key in keys} == {slot_of(tag)}
        assert all(key.startswith(f"{{{tag}}}:") for key in keys)
        tags.add(tag)
    assert len(tags) == 2 + 8 + 8


@given(
    group=st.integers(0, 1_023),
    row_id=st.tuples(st.just("c"), st.integers(0, 2**32), st.integers(0, 2**32 - 1))
    | st.tuples(st.just("pop"), st.sampled_from(["all", "10m", "90d"]), st.integers(0, 2**32)),
)
def test_a_row_is_found_again_by_its_key(group: int, row_id: RowId) -> None:
    keys = Keys("a.b-c_1")
    (key,) = keys.rows(group, [row_id])
    assert keys.row_of(key) == (group, row_id)
    assert Keys("axb-c_1").row_of(key) is None


def test_other_keys_are_no_rows() -> None:
    keys = Keys("rs")
    of_group = keys.group_watermarks(3), keys.items(3), keys.epochs(3)
    for key in (*of_group, keys.layout, *keys.users(0, ["c:1:2", "{rs:g1}:c:1:2"]), keys.duplicates(0, 1)):
        assert keys.row_of(key) is None


def test_the_library_is_the_same_each_time_and_names_its_version() -> None:
    library = load_library()
    load_library.cache_clear()
    assert load_library() == library
    assert library.source.startswith(f"#!lua name={library.name}\n")
    for name in (*READ_ONLY, *WRITING):
        assert f"function_name='{library.function(name)}', callback={name}," in library.source
        assert f"local function {name}(keys, args)" in library.source


def test_settings_make_a_store_and_its_layout() -> None:
    settings = load_settings()
    store: StateStore = open_store(settings)
    assert isinstance(store, RedisStore)
    assert layout_of(settings) == Layout(8, 8, 180 * 86_400, 32_768, LAYOUT_VERSION)

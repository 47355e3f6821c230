"""Invariants of key names and of the function library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from workers.settings import load_settings
from workers.store import LAYOUT_VERSION, Layout, RedisStore, StateStore, layout_of, open_store
from workers.store.functions import READ_ONLY, WRITING, load_library
from workers.store.keys import Keys, hash_slot


@given(st.text(max_size=30))
def test_hash_slots_are_those_of_the_cluster(key: str) -> None:
    assert hash_slot(key) == key_slot(key.encode())


@pytest.mark.parametrize("namespace", ["rs", "a.b-c_1"])
def test_keys_of_one_tag_lie_in_one_slot(namespace: str) -> None:
    tags = set()
    for tag, keys in Keys(namespace).patterns(groups=8, partitions=8):
        assert {hash_slot(key) for key in keys} == {hash_slot(tag)}
        assert all(key.startswith(f"{{{tag}}}:") for key in keys)
        tags.add(tag)
    assert len(tags) == 2 + 8 + 8


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

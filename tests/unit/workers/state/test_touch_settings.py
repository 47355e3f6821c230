"""The touch policy that settings say, and what a wrong one is answered with."""

from __future__ import annotations

from typing import Any

import pytest

from recsys.lists.touch_policy import FOR_EVER
from schemas.events import EVENT_TYPES, EventType
from tests.builders import small_settings
from tests.fold import is_kept
from workers.errors import SettingsError
from workers.lists.engine_config import engine_config
from workers.settings import load_settings
from workers.state.touch_policy import kept_types, off_seconds, touch_policy

DAY_S = 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("no", 0), ("forever", FOR_EVER), ("45s", 45), ("30m", 1_800), ("12h", 43_200), ("1.5d", 129_600), ("2w", 1_209_600)],
)
def test_times_are_read_with_their_unit(text: str, seconds: int) -> None:
    assert off_seconds(text) == seconds
    assert load_settings(touch={"view": text}).touch.view == text


def test_the_default_policy_is_the_one_that_the_guide_names() -> None:
    table = touch_policy(load_settings()).table[0, 0]
    named = {"view": 0, "click": 0, "impression": 0, "add_to_cart": DAY_S, "purchase": 30 * DAY_S}
    for kind in EVENT_TYPES:
        assert table[kind.code] == named.get(kind.value, FOR_EVER)
    assert set(load_settings().touch.model_dump()) == {kind.value for kind in EVENT_TYPES} | {"by_category"}


@pytest.mark.parametrize(
    ("touch", "names"),
    [
        ({"purchase": "30"}, "purchase"),
        ({"purchase": "a month"}, "purchase"),
        ({"purchase": -1}, "purchase"),
        ({"purchase": "0d"}, "purchase"),
        ({"bought": "30d"}, "bought"),
        ({"by_category": {"groceries": {"bought": "3d"}}}, "bought"),
        ({"by_category": {"groceries": {"purchase": "3 days"}}}, "purchase"),
        ({"by_category": {"groceries": "3d"}}, "groceries"),
    ],
)
def test_a_wrong_policy_is_refused_at_start_by_name(touch: dict[str, Any], names: str) -> None:
    with pytest.raises(SettingsError, match=names) as refused:
        load_settings(touch=touch)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"touch": {"play": "no", "rating": "no"}},
        {"touch": {"rating": "no", "dislike": "no"}},
        {"touch": {"by_category": {"tickets": {"view": "1d"}}}},
        {"touch": {"by_category": {"tickets": {"view": "no", "dislike": "no"}}}},
        {"weights": {"view": -0.5}},
        {"weights": {"view": -0.5}, "touch": {"dislike": "no"}},
        {"touch": {kind.value: "no" for kind in EVENT_TYPES}},
    ],
)
def test_the_engine_remembers_the_types_that_the_definition_of_the_state_does(sections: dict[str, Any]) -> None:
    settings = small_settings(**sections)
    mask = kept_types(touch_policy(settings), settings.weights)
    assert {kind.value for kind in EVENT_TYPES if mask >> kind.code & 1} == {
        kind.value for kind in EVENT_TYPES if is_kept(kind.value, settings)
    }
    config = engine_config(settings)
    assert config.kept_types == mask and config.touch_policy.table.tolist() == touch_policy(settings).table.tolist()
    assert (mask >> EventType.IMPRESSION.code & 1) == 0


def test_a_worker_has_room_for_its_user_cache_from_the_start() -> None:
    settings = small_settings(stream={"user_cache": 700, "batch_max_events": 90})
    assert engine_config(settings).user_slots == 790

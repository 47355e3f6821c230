"""The made-up data of `recsys init --with-data` are the same for the same seed, are imported whole, and are listed as their page says."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.scenarios import END_S
from tests.sample_world import IMPORTED_EVENTS, Listed, imported, listed, sample
from workers.cli import app as application
from workers.operations.sample_data.files import SAMPLES, sample_of, user_to_show
from workers.operations.scenarios import SCENARIOS

DAY_S = 86_400
by_scenario = pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.xdist_group(f"sample-{name}")) for name in SAMPLES])


def seconds_off(pause: str) -> int:
    """Return the seconds of a setting of `touch`."""
    return int(pause[:-1]) * {"h": 3_600, "d": DAY_S, "w": 7 * DAY_S}[pause[-1]]


@by_scenario
def test_the_same_seed_gives_the_same_data_and_times_move_with_the_end(name: str) -> None:
    made, later = sample(name), sample_of(name, END_S + 7 * DAY_S)
    moved = [event | {"event_ts_ms": event["event_ts_ms"] - 7 * DAY_S} for event in later.events]
    assert moved == made.events and later.users == made.users and len(later.items) == len(made.items)


def test_another_seed_gives_other_data() -> None:
    assert sample_of("news", END_S, seed=1).events != sample("news").events
    assert list(SAMPLES) == list(SCENARIOS)


@by_scenario
def test_import_takes_every_row_and_loses_no_field(name: str) -> None:
    made, found = sample(name), imported(name)
    for kind, rows in (("items", made.items), ("users", made.users), ("events", made.events)):
        records, report = found[kind]
        assert report.bad == 0 and len(records) == min(len(rows), IMPORTED_EVENTS) == report.rows, report.reasons
    assert [item.item_id for item in found["items"][0]] == [record["item_id"] for record in made.items]
    for item, record in zip(found["items"][0], made.items, strict=True):
        given = {key for key, value in record.items() if value is not None} - {"item_id", "title", "categories", "available"}
        attributes = {*item.categorical_attributes, *item.numeric_attributes}
        assert {key for key in given if not key.endswith("_ts_ms")} == attributes
        assert item.published_ts_ms == record["published_ts_ms"] * 1_000 and item.title and item.categories
    for event, record in zip(found["events"][0], made.events, strict=False):
        assert (event.type, event.event_ts_ms, event.value) == (record["type"], record["event_ts_ms"] * 1_000, record["value"])
        assert event.event_id == record["event_id"] and event.session == record["session"] and event.position == record["position"]


@by_scenario
def test_data_hold_together(name: str) -> None:
    made = sample(name)
    items, users = {record["item_id"]: record for record in made.items}, {record["user_id"] for record in made.users}
    assert len(items) == len(made.items) and len(users) == len(made.users) and len({e["event_id"] for e in made.events}) == len(made.events)
    for event in made.events:
        item = items[event["item_id"]]
        assert event["user_id"] in users and item["published_ts_ms"] <= event["event_ts_ms"] < END_S
        assert event["type"] == "impression" or item.get("price", 1) is not None, "nobody buys what has no price"
    assert [event["event_ts_ms"] for event in made.events] == sorted(event["event_ts_ms"] for event in made.events)
    assert len(made.events) < 30_000 and Counter(event["type"] for event in made.events)["impression"] > 10_000
    assert made.events[-1]["event_ts_ms"] > END_S - DAY_S // 2, "they end when they say"


def whole(name: str) -> Listed:
    """Return lists that are as long as the settings say, for all who did something."""
    found = listed(name)
    active = {event["user_id"] for event in found.sample.events if event["type"] != "impression"}
    for user, user_id in enumerate(found.users):
        assert user_id not in active or len(found.listed(user)) == found.settings.lists.size
    return found


@pytest.mark.xdist_group("sample-shop")
def test_a_shop_brings_back_only_what_is_used_up_and_shows_nothing_sold_out_or_without_a_price() -> None:
    found = whole("shop")
    bought, touch = found.did("purchase"), found.settings.touch
    came_back = Counter[str]()
    for user, user_id in enumerate(found.users):
        for item in found.shown(user):
            assert item.available and "price" in item.numeric_attributes
            when_s = bought.get((user_id, item.item_id))
            if when_s is not None:
                pause = touch.by_category.get(item.categories[0], {}).get("purchase", touch.purchase)
                assert END_S - when_s >= seconds_off(pause), (item, when_s)
                came_back[item.categories[0]] += 1
    assert set(came_back) <= {"groceries", "cosmetics"} and came_back["groceries"] > 50
    brands = [Counter(item.categorical_attributes["brand"] for item in found.listed(user)[:10]) for user in range(len(found.users))]
    assert max(max(counts.values(), default=0) for counts in brands) == found.settings.lists.caps[0].most
    assert any(not item.available for item in found.items) and any("price" not in item.numeric_attributes for item in found.items)


@pytest.mark.xdist_group("sample-video")
def test_a_video_service_goes_on_with_what_was_started_and_not_ended() -> None:
    found = whole("video")
    starts, ends, thumbs = found.did("click"), found.did("play"), found.did("dislike")
    n_waiting = 0
    for user, user_id in enumerate(found.users):
        page = found.page(user)
        kids = {item.item_id for item in page["again"] if item.categories[0] == "kids"}
        for item in page["again"]:
            key = (user_id, item.item_id)
            assert key in starts and (ends.get(key, 0) < starts[key] or item.item_id in kids), "only what was not ended waits"
        for item in found.shown(user):
            key = (user_id, item.item_id)
            assert key not in thumbs and (key not in ends or item.categories[0] == "kids"), "what was watched, or disliked, is over"
        unfinished = {item_id for who, item_id in starts.keys() - ends.keys() - thumbs.keys() if who == user_id}
        waiting = {item.item_id for item in page["again"]} & unfinished
        assert bool(waiting) == bool(unfinished), (user_id, unfinished)
        n_waiting += len(waiting)
    assert n_waiting > 100


@pytest.mark.xdist_group("sample-news")
def test_news_show_nothing_that_has_expired_or_was_opened() -> None:
    found = whole("news")
    opened = found.did("click", "play")
    expired = {item.item_id for item in found.items if (item.expires_ts_ms or 0) <= END_S * 1_000}
    assert len(expired) > 200
    for user, user_id in enumerate(found.users):
        for item in found.shown(user):
            assert item.item_id not in expired and (user_id, item.item_id) not in opened


@pytest.mark.xdist_group("sample-social")
def test_a_feed_shows_two_of_an_author_and_nothing_that_was_completed_or_hidden() -> None:
    found = whole("social")
    cap, over = found.settings.lists.caps[0], found.did("play", "like", "hide")
    assert cap.by == "attribute.author"
    most = Counter[int]()
    for user, user_id in enumerate(found.users):
        authors = Counter(item.categorical_attributes["author"] for item in found.listed(user)[: cap.first])
        most[max(authors.values(), default=0)] += 1
        assert max(authors.values(), default=0) <= cap.most
        assert all((user_id, item.item_id) not in over for item in found.shown(user))
    assert most[cap.most] > 100, "the cap binds"


def test_init_with_data_writes_files_and_the_commands_that_show_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "a shop"
    assert application.run(["init", "news", "--with-data", "--folder", str(folder)]) == 0
    printed = capsys.readouterr()
    assert {path.name for path in (folder / "sample").iterdir()} == {"items.csv", "users.csv", "events.csv"}
    commands = printed.out.splitlines()[-5:]
    assert commands[0] == f"cd '{folder}'" and commands[2] == ". ./stack.env"
    assert commands[1].startswith("recsys up --folder data --env-file stack.env")
    assert commands[3] == "recsys import sample/items.csv sample/users.csv sample/events.csv --yes"
    assert commands[4].startswith("recsys lists get reader-")
    assert application.run(["init", "news", "--with-data", "--folder", str(folder)]) == 2
    (folder / "recsys.toml").unlink()
    (folder / "docker-compose.override.yml").unlink()
    assert application.run(["init", "news", "--with-data", "--folder", str(folder)]) == 2
    assert "items.csv is there already" in capsys.readouterr().err and not (folder / "recsys.toml").exists()


def test_the_user_to_show_did_most_and_has_something_to_go_on_with() -> None:
    news, video = sample("news"), sample("video")
    did = Counter(event["user_id"] for event in news.events if event["type"] != "impression")
    assert did[user_to_show(news)] == max(did.values())
    shown = user_to_show(video)
    of_user = [event for event in video.events if event["user_id"] == shown and event["type"] in ("click", "play")]
    newest = {event["item_id"]: event["type"] for event in of_user}
    assert list(newest.values()).count("click") > 1

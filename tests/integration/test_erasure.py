"""`recsys users erase` on a real broker and a real Redis: beside a worker, through a rebuild, and without any worker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.test_cli import recsys
from tests.integration.test_stream import workers
from tests.newest_lists import newest_lists
from workers.client import EventPublisher
from workers.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def act(settings: Settings) -> None:
    """Two users like items; one has a profile, and was somebody else before."""
    with EventPublisher(settings) as publisher:
        for n in range(8):
            publisher.publish_item({"item_id": f"i{n}", "title": f"film {n}", "categories": ["war"]})
        for user_id, n in [("ann", 1), ("ann", 2), ("visitor", 3), ("bob", 1), ("bob", 4)]:
            publisher.publish(user_id=user_id, item_id=f"i{n}", type="like")
        publisher.publish_profile({"user_id": "ann", "categorical_attributes": {"country": "NO"}})
        publisher.merge_users("visitor", "ann")


def test_an_erased_user_is_gone_for_good_and_may_start_again(stack: Any, settings: Settings, worker_env: dict[str, str]) -> None:
    act(settings)
    with newest_lists(settings) as lists, workers(stack, worker_env):
        lists.until_there({"ann": True, "visitor": False, "bob": True}, "lists")
        dry = json.loads(recsys(worker_env, "users", "erase", "ann", "--dry-run", "--json").stdout)
        assert [(user["user_id"], user["n_items"], user["has_profile"], user["because_of"]) for user in dry["users"]] == [
            ("ann", 2, True, None), ("visitor", 1, True, "ann"),
        ]  # fmt: skip
        assert recsys(worker_env, "users", "show", "ann").returncode == 0 and not dry["erased"]
        refused = recsys(worker_env, "users", "erase", "ann")
        assert refused.returncode == 2 and "--yes" in refused.stderr

        erased = recsys(worker_env, "users", "erase", "ann", "--yes")
        assert erased.returncode == 0, erased.stderr
        assert "2 users are erased" in erased.stdout and settings.topics.events in erased.stdout and "retention" in erased.stdout
        for user_id in ("ann", "visitor"):
            assert "no state of this user" in recsys(worker_env, "users", "show", user_id).stderr
        lists.until_there({"ann": False, "visitor": False, "bob": True}, "lists removed")
        assert json.loads(recsys(worker_env, "state", "verify", "--json").stdout)["differences"] == []

        rebuilt = recsys(worker_env, "state", "rebuild")
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert recsys(worker_env, "users", "show", "ann").returncode == 1, "the log does not bring the user back"
        with EventPublisher(settings) as publisher:
            publisher.publish(user_id="ann", item_id="i7", type="like")
        lists.until_there({"ann": True, "visitor": False, "bob": True}, "a list of the new history")
        shown = json.loads(recsys(worker_env, "users", "show", "ann", "--json").stdout)
        assert [row["item_id"] for row in shown["history"]] == ["i7"] and shown["profile"] is None and shown["merged_from"] == []
        assert json.loads(recsys(worker_env, "state", "verify", "--json").stdout)["differences"] == []


def test_without_a_worker_the_records_wait_and_the_exit_code_says_so(stack: Any, settings: Settings, worker_env: dict[str, str]) -> None:
    act(settings)
    with newest_lists(settings) as lists, workers(stack, worker_env):
        lists.until_there({"ann": True, "visitor": False, "bob": True}, "lists")
    late = recsys(worker_env, "users", "erase", "bob", "--yes", "--wait", "0.5", "--json")
    assert late.returncode == 1 and json.loads(late.stdout)["unconfirmed"] == ["bob"] and "is a worker running?" in late.stderr
    assert recsys(worker_env, "users", "show", "bob").returncode == 0
    with newest_lists(settings) as lists, workers(stack, worker_env):
        lists.until_there({"ann": True, "visitor": False, "bob": False}, "bob's list to be removed")
    assert recsys(worker_env, "users", "show", "bob").returncode == 1

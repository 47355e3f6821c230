"""Two sets of workers with settings of their own make lists of the same events, as docs/experiments.md describes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.integration.test_cli import recsys
from tests.integration.test_stream import workers
from tests.newest_lists import newest_lists
from workers.client import EventPublisher
from workers.kafka.topics import provision
from workers.settings import Settings, load_settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def test_a_second_set_of_workers_makes_lists_of_its_own_from_the_same_events(
    stack: Any, sections: dict[str, Any], settings: Settings, worker_env: dict[str, str]
) -> None:
    theirs = {role: f"{sections['topics'][role]}.varied" for role in ("recommendations", "dead_letters")}
    topics = {**sections["topics"], **theirs}
    varied = load_settings(**{
        **sections, "topics": topics, "lists": {**sections.get("lists", {}), "variant": "varied", "size": 2},
        "stream": {**sections.get("stream", {}), "group_id": f"{settings.stream.group_id}.varied"},
        "redis": {**sections["redis"], "namespace": f"{settings.redis.namespace}.varied"},
    })  # fmt: skip
    provision(varied)
    env = {
        **worker_env, "RECSYS_LISTS__VARIANT": "varied", "RECSYS_LISTS__SIZE": "2", "RECSYS_STREAM__GROUP_ID": varied.stream.group_id,
        "RECSYS_REDIS__NAMESPACE": varied.redis.namespace, "RECSYS_TOPICS__RECOMMENDATIONS": varied.topics.recommendations,
        "RECSYS_TOPICS__DEAD_LETTERS": varied.topics.dead_letters,
    }  # fmt: skip
    with EventPublisher(settings) as publisher:
        for n in range(6):
            publisher.publish_item({"item_id": f"i{n}", "title": f"film {n}", "categories": ["war"]})
        for user_id, n in [("ann", 1), ("bob", 1), ("bob", 2)]:
            publisher.publish(user_id=user_id, item_id=f"i{n}", type="like", context={"variant": "varied"})
    with newest_lists(settings) as lists, newest_lists(varied) as others, workers(stack, worker_env):
        stack.start_worker("stream", env)
        for found, name, at_most in ((lists, "default", settings.lists.size), (others, "varied", 2)):
            found.until_there({"ann": True, "bob": True}, f"lists of {name}")
            for made in found.of.values():
                assert made is not None and made["variant"] == name and 0 < len(made["items"]) <= at_most
        both = [json.loads(recsys(chosen, "users", "show", "bob", "--json").stdout)["history"] for chosen in (env, worker_env)]
        assert both[0] == both[1] and [row["item_id"] for row in both[0]] == ["i2", "i1"], "each has learnt from all events"

"""Topics of lists of items exist, and need rights, exactly where the settings publish them."""

from __future__ import annotations

from workers.kafka.rights import kafka_rights
from workers.kafka.topics import TopicState, topic_specs
from workers.settings import load_settings

NAMES = {"similar": "recsys.similar", "bought_together": "recsys.bought-together", "trending": "recsys.trending"}


def test_only_topics_that_are_published_are_created_and_looked_for() -> None:
    before = {spec.role: spec for spec in topic_specs(load_settings())}
    for role, name in NAMES.items():
        settings = load_settings(related={role: True}, topics={"partitions": 5})
        specs = {spec.role: spec for spec in topic_specs(settings)}
        assert specs.keys() - before.keys() == {role}
        spec = specs[role]
        assert (spec.name, spec.partitions, spec.exact, spec.configs["cleanup.policy"]) == (name, 5, True, "compact")
        assert TopicState(spec, None, None).problem == f"topic {name} ({role}) is missing: run `recsys topics create`"


def test_workers_write_and_read_them_and_readers_read_them() -> None:
    for role, name in NAMES.items():
        settings = load_settings(related={role: True})
        granted = {of: {(right.name, right.operation) for right in kafka_rights(settings, of)} for of in ("stream", "reader", "admin")}
        default = {of: {(right.name, right.operation) for right in kafka_rights(load_settings(), of)} for of in granted}
        assert granted["stream"] - default["stream"] == {(name, "Read"), (name, "Write")}
        assert granted["reader"] - default["reader"] == {(name, "Read")}
        assert granted["admin"] - default["admin"] == {(name, "Create"), (name, "Describe")}

"""S10: the rights of the document are those of the table, and the table names what the code calls."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from workers.kafka import topics
from workers.kafka.rights import CLUSTER_COMMANDS, REDIS_COMMANDS, ROLES, Right, explain, kafka_rights, lacking, redis_acl
from workers.operations import rights_doc
from workers.redis.diagnosis import lacking_right
from workers.redis.functions import load_library
from workers.settings import load_settings

WORKERS = Path(rights_doc.__file__).parents[1]
SECURE = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "stream", "sasl_password": "x"}


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        ({"error_code": 29}, "User:stream lacks Describe on topic recsys.events"),
        ({"error_code": 3}, "recsys.events is missing: run `recsys topics create`"),
        ({"topic_id": "5" * 32, "authorized_operations": ["DESCRIBE"]}, "recsys.events was not listed a moment ago"),
    ],
)
def test_a_topic_whose_right_has_just_come_back_is_not_called_missing(topic: dict[str, Any], said: str) -> None:
    """S9."""
    with mock.patch.object(topics, "admin_client", return_value=contextlib.nullcontext(Admin({"recsys.events": topic}))):
        assert said in topics.topic_problem(load_settings(kafka=SECURE), "recsys.events")


def test_the_document_shows_the_rights_of_this_version() -> None:
    assert not rights_doc.stale(), "run python -m workers.operations.rights_doc"


def test_the_redis_user_may_call_exactly_what_functions_and_store_call() -> None:
    functions = {name.lower() for name in re.findall(r"\bcall\(['\"](\w+)['\"]", load_library().source)}
    said = "".join(file.read_text("utf-8") for file in (WORKERS / "redis").glob("*.py"))
    known = {command for command in (*REDIS_COMMANDS, *CLUSTER_COMMANDS) if "|" not in command}
    quoted = {word.lower() for word in re.findall(r"\"([A-Z]{3,}(?:_RO)?)\"", said)}
    words = {"match", "count", "replace", "library", "libraryname", "function", "load", "list", "server"}
    not_commands = {word for word in quoted if word not in known} - words
    codes = {"loading", "readonly", "clusterdown", "masterdown", "tryagain", "moved", "ask", "oom", "busy", "noreplicas", "misconf"}
    codes |= {"wrongpass", "noauth", "noperm", "wrongtype", "crossslot", "alert"}
    assert functions <= known
    assert not_commands <= codes | {"withscores", "limit", "rediss"}, "a command that no right allows"
    assert known - {"command"} <= functions | quoted | {"fcall", "fcall_ro"}, "a right that nothing needs"


def test_keys_of_every_generation_are_allowed_and_of_no_other_namespace() -> None:
    rules = redis_acl(load_settings(redis={"namespace": "shop"}))
    assert rules[:2] == ["~{shop:*", "~{shop.g*"] and "+@all" not in rules and "~*" not in rules


def test_names_of_settings_are_the_names_of_rights() -> None:
    settings = load_settings(topics={"events": "a.events"}, stream={"group_id": "g"}, trainer={"app_id": "t"})
    shown = {str(right) for role in ROLES for right in kafka_rights(settings, role)}
    assert {"Read on topic a.events", "Read on group g", "Read on group g-catalogue", "Read on topic t-__assignor-__leader"} <= shown


def test_no_role_names_a_right_twice() -> None:
    for role in ROLES:
        shown = [str(right) for right in kafka_rights(load_settings(), role)]
        assert len(shown) == len(set(shown)), role


class Admin:
    """Answers what a broker tells of authorized operations."""

    def __init__(self, topics: dict[str, Any]) -> None:
        self.topics = topics

    def describe_topics(self, names: list[str]) -> list[dict[str, Any]]:
        return [{"name": name, **self.topics[name]} for name in names]


def test_what_a_broker_does_not_tell_counts_as_granted_and_what_it_hides_as_lacking() -> None:
    told = {"error_code": 0, "authorized_operations": ["DESCRIBE", "READ"]}
    admin = Admin(
        {"told": told, "silent": {"error_code": 0, "authorized_operations": []}, "hidden": {"error_code": 29}, "gone": {"error_code": 3}}
    )
    needed = [Right("topic", name, "Write", "") for name in admin.topics]
    assert [right.name for right in lacking(admin, needed)] == ["hidden", "told"] or {r.name for r in lacking(admin, needed)} == {
        "hidden",
        "told",
    }


class GroupAdmin:
    """Answers DescribeGroups with an error in the description, as kafka-python does once it knows the coordinator."""

    def describe_groups(self, names: list[str]) -> dict[str, dict[str, Any]]:
        return {name: {"error": "[Error 30] GroupAuthorizationFailedError: ", "authorized_operations": []} for name in names}


def test_a_denied_description_of_a_group_is_a_lacking_right() -> None:
    needed = [Right("group", "recsys-stream", "Read", "")]
    assert lacking(GroupAdmin(), needed) == needed


def test_an_error_of_a_client_is_one_line_with_principal_operation_and_resource() -> None:
    """S7, S9."""
    settings = load_settings(kafka=SECURE)
    line = explain(GroupAuthorizationFailedError("recsys-stream-catalogue"), settings, "stream")
    assert line == "Kafka denies a right: User:stream lacks Read on group recsys-stream-catalogue: grant it (docs/security.md)"
    line = explain(TopicAuthorizationFailedError({"recsys.recommendations"}), settings, "stream")
    assert "User:stream lacks Write on topic recsys.recommendations" in line
    assert explain(ValueError("x"), settings, "stream") == "x"
    assert explain(SimpleNamespace(args=()), settings, "stream")  # type: ignore[arg-type]


def test_a_refusal_of_redis_names_user_and_command_or_keys() -> None:
    """S11. The words are those of Redis 7.0."""
    library = "#!lua name=x\nreturn redis.call('HGET', KEYS[1])\n"
    direct = lacking_right("this user has no permissions to run the 'hget' command", "app", None, "rs", library)
    assert str(direct) == "Redis denies a right: the user app lacks the command HGET (+hget): grant it (docs/security.md)"
    inside = lacking_right(
        "The user executing the script can't run this command or subcommand script: f, on @user_function:2.", None, None, "rs", library
    )
    assert "the default user lacks the command HGET (+hget), which a function calls" in str(inside)
    keys = lacking_right("this user has no permissions to access one of the keys used as arguments", "app", None, "rs", library)
    assert "keys of the namespace rs (~{rs:* ~{rs.g*)" in str(keys)

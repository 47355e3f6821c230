"""The rights that each role needs in Kafka and Redis, and which of them a principal lacks.

This table is the one source: docs/security.md shows it (`python -m workers.operations.rights_doc` writes it), workers check it before they
start, and `make test-secure` grants exactly this, then takes each right away.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workers.settings import KafkaSettings, Settings

log = logging.getLogger(__name__)

Role = Literal["publisher", "stream", "trainer", "admin", "reader", "operator"]
Resource = Literal["topic", "group"]
ROLES: dict[Role, str] = {
    "publisher": "programs that publish; `recsys events publish`, `items publish`, `users publish`",
    "stream": "`recsys worker stream`",
    "trainer": "`recsys worker trainer`",
    "admin": "`recsys topics create` and `list`, `recsys doctor`",
    "reader": "programs that read lists; `recsys lists get` and `tail`",
    "operator": "`recsys dlq`, `recsys state`, `recsys models`",
}
PROFILE_READERS = ("segments", "two_tower")
"""Kinds of models that are trained on profiles."""
OPERATIONS = {"Read": 3, "Write": 4, "Create": 5, "Describe": 8, "DescribeConfigs": 10}
"""Kafka's numbers of the operations; in a bitfield of authorized operations each is the bit of that number."""
REMEDY = "grant it (docs/security.md)"
REDIS_COMMANDS = (
    *("append", "fcall", "fcall_ro", "function|list", "function|load", "get", "getrange", "hdel", "hexists", "hget", "hgetall"),
    *(
        "hincrby",
        "hlen",
        "hmget",
        "hscan",
        "hset",
        "incr",
        "info",
        "lindex",
        "llen",
        "lrange",
        "mget",
        "ping",
        "rpush",
        "sadd",
        "scan",
        "scard",
        "set",
        "srandmember",
        "srem",
        "unlink",
        "zadd",
    ),
    *("zrange", "zrangebyscore"),
)
"""What the Redis user of stream workers and of the command line may call, besides AUTH and HELLO, which all users may."""
CLUSTER_COMMANDS = ("asking", "cluster|slots", "command", "exists")
"""What it needs besides on a Redis Cluster."""


@dataclass(frozen=True, slots=True)
class Right:
    """One operation on one topic or consumer group. Read and Write include Describe."""

    resource: Resource
    name: str
    operation: str
    purpose: str

    def __str__(self) -> str:
        return f"{self.operation} on {self.resource} {self.name}"


def leader_topic(settings: Settings) -> str:
    """Return the hidden topic whose owner is the trainer that leads; Faust names it."""
    return f"{settings.trainer.app_id}-__assignor-__leader"


def related_topics(settings: Settings) -> dict[str, str]:
    """Return the topics of lists of items that these settings publish, by role."""
    topics, related = settings.topics, settings.related
    found = {"similar": topics.similar, "bought_together": topics.bought_together, "trending": topics.trending}
    return {role: name for role, name in found.items() if getattr(related, role)}


def catalogue_group(settings: Settings) -> str:
    """Return the consumer group in which stream workers share items, profiles and models."""
    return f"{settings.stream.group_id}-catalogue"


def kafka_rights(settings: Settings, role: Role) -> list[Right]:
    """Return the least rights of a role, with the topics and groups of these settings."""
    topics, stream, trainer = settings.topics, settings.stream, settings.trainer
    control = (topics.control,) if settings.lists.rules_topic else ()
    every = (topics.events, topics.items, topics.users, topics.recommendations, topics.models, *control, topics.dead_letters)
    sources, related = (topics.events, topics.items, topics.users), related_topics(settings)
    read = (*sources, topics.models, *control)
    profiled = " and ".join(f"`{kind}`" for kind in PROFILE_READERS if kind in trainer.kinds)
    reads_lists = settings.lists.renewed_users or settings.lists.stability.margin
    match role:
        case "publisher":
            return [Right("topic", name, "Write", "publish") for name in sources]
        case "stream":
            return [
                *(Right("topic", name, "Read", "read") for name in read),
                *(Right("topic", name, "Write", "publish") for name in (topics.recommendations, topics.dead_letters)),
                *(Right("topic", name, right, f"`related.{kind}`") for kind, name in related.items() for right in ("Read", "Write")),
                *([Right("topic", topics.recommendations, "Read", "`lists.renewed_users`, `lists.stability`")] if reads_lists else []),
                Right("group", stream.group_id, "Read", "share the events among the workers"),
                Right("group", catalogue_group(settings), "Read", "share items, profiles and models among the workers"),
            ]
        case "trainer":
            return [
                Right("topic", topics.events, "Read", "keep the event log"),
                Right("topic", topics.items, "Read", "train a recipe on the content of items"),
                *([Right("topic", topics.users, "Read", f"train {profiled} on profiles")] if profiled else []),
                Right("topic", topics.models, "Read", "compare what is announced with the model store"),
                Right("topic", topics.models, "Write", "announce models"),
                Right("topic", leader_topic(settings), "Create", "elect the leader; not needed where the topic exists"),
                Right("topic", leader_topic(settings), "Read", "elect the leader"),
                Right("group", trainer.app_id, "Read", "elect the leader"),
            ]
        case "admin":
            return [
                *(
                    Right("topic", name, "Create", "`topics create`; not needed where the topic exists")
                    for name in (*every, *related.values())
                ),
                # Read on the others includes it
                *(
                    Right("topic", name, "Describe", "`topics list`, `doctor`")
                    for name in (topics.recommendations, topics.dead_letters, *related.values())
                ),
                *(Right("topic", name, "DescribeConfigs", "`doctor`: clock, retention, removals") for name in read),
                *(Right("topic", name, "Read", "`doctor`: whether records can be read") for name in read),
                Right("group", stream.group_id, "Describe", "`doctor`: how far behind workers are"),
                Right("group", catalogue_group(settings), "Describe", "`doctor`: how far behind workers are"),
            ]
        case "reader":
            return [Right("topic", name, "Read", "read lists") for name in (topics.recommendations, *related.values())]
        case "operator":
            return [
                *(
                    Right("topic", name, "Read", "`dlq show`, `state rebuild` and `verify`")
                    for name in every
                    if name != topics.recommendations
                ),
                *(Right("topic", name, "Write", "`dlq redrive`, `models promote` and `rollback`") for name in (*sources, topics.models)),
                *(Right("topic", name, "Write", "`rules publish`") for name in control),
            ]


def redis_acl(settings: Settings) -> list[str]:
    """Return the rules of `ACL SETUSER` for the keys of these settings' namespace and the commands."""
    namespace, commands = settings.redis.namespace, REDIS_COMMANDS + (CLUSTER_COMMANDS if settings.redis.cluster else ())
    return [f"~{{{namespace}:*", f"~{{{namespace}.g*", *(f"+{command}" for command in commands)]


def principal(kafka: KafkaSettings) -> str:
    """Return who Kafka takes this process for, as its ACLs name it."""
    if kafka.security_protocol.startswith("SASL"):
        return f"User:{kafka.sasl_username}"
    if kafka.ssl_certfile is not None:
        return f"the subject of {kafka.ssl_certfile}"
    return "User:ANONYMOUS"


def denial(kafka: KafkaSettings, lacking: Sequence[Right]) -> str:
    """Return one line that names the principal and the rights that it lacks."""
    shown = ", ".join(str(right) for right in lacking[:4])
    more = f" and {len(lacking) - 4} more" if len(lacking) > 4 else ""
    return f"Kafka denies a right: {principal(kafka)} lacks {shown}{more}: {REMEDY}"


def explain(error: BaseException, settings: Settings, role: Role) -> str:
    """Return an error of a Kafka client as one line; one about a right names principal, operation and resource."""
    named = {str(name) for argument in getattr(error, "args", ()) for name in _names(argument)}
    kind = type(error).__name__
    if kind == "GroupAuthorizationFailedError":
        groups = [right for right in kafka_rights(settings, role) if right.resource == "group"]
        chosen = [right for right in groups if right.name in named] or groups
    elif kind == "TopicAuthorizationFailedError":
        topics = [right for right in kafka_rights(settings, role) if right.resource == "topic"]
        chosen = [right for right in topics if right.name in named] or topics
    elif "Authorization" in kind:
        return f"Kafka denies {principal(settings.kafka)} a right ({kind}): {REMEDY}"
    else:
        return str(error) or kind
    return denial(settings.kafka, chosen)


def denial_without_right(error: BaseException, settings: Settings) -> str:
    """Return an authorization error as one line where the broker does not say which right is lacking."""
    names = sorted({str(name) for argument in getattr(error, "args", ()) for name in _names(argument)} & _known_names(settings))
    where = f"a right on {', '.join(names)}" if names else f"a right ({type(error).__name__})"
    return f"Kafka denies a right: {principal(settings.kafka)} lacks {where}: {REMEDY}"


def on_topics(operation: str, *names: str) -> tuple[Right, ...]:
    """Return one operation on some topics, as what a command needs."""
    return tuple(Right("topic", name, operation, "") for name in names)


def _known_names(settings: Settings) -> set[str]:
    return {right.name for role in ROLES for right in kafka_rights(settings, role)}


def _names(argument: object) -> Iterable[object]:
    return argument if isinstance(argument, set | frozenset | list | tuple) else (argument,)


def lacking(admin: Any, needed: Sequence[Right]) -> list[Right]:
    """Return the rights that the broker says the principal of this client lacks, as `workers.kafka.admin.missing_rights`."""
    topics = sorted({right.name for right in needed if right.resource == "topic"})
    groups = sorted({right.name for right in needed if right.resource == "group"})
    granted = {("topic", name): bits for name, bits in _topic_bits(admin, topics).items()}
    granted |= {("group", name): bits for name, bits in _group_bits(admin, groups).items()}
    return [right for right in needed if not granted.get((right.resource, right.name), ~0) >> OPERATIONS[right.operation] & 1]


def _topic_bits(admin: Any, names: Sequence[str]) -> dict[str, int]:
    """Topic ▸ bitfield of authorized operations: 0 where this principal may not even describe it, no entry where nothing is known."""
    from kafka import errors

    bits: dict[str, int] = {}
    for topic in admin.describe_topics(list(names)) if names else ():
        if topic.get("error_code", 0) == errors.TopicAuthorizationFailedError.errno:
            bits[topic["name"]] = 0
        elif (known := _bits(topic.get("authorized_operations"))) is not None:
            bits[topic["name"]] = known
    return bits


def _group_bits(admin: Any, names: Sequence[str]) -> dict[str, int]:
    from kafka import errors

    bits: dict[str, int] = {}
    for name in names:
        try:
            described = admin.describe_groups([name]).get(name, {})
        except errors.GroupAuthorizationFailedError:
            bits[name] = 0
            continue
        except errors.KafkaError as error:  # a new cluster has no coordinator yet, and some brokers describe no groups
            log.debug("the rights on group %s cannot be asked for: %s", name, error)
            continue
        if errors.GroupAuthorizationFailedError.__name__ in str(described.get("error")):  # where the client knew the coordinator already
            bits[name] = 0
        elif (known := _bits(described.get("authorized_operations"))) is not None:
            bits[name] = known
    return bits


def _bits(operations: Any) -> int | None:
    """Return named operations as a bitfield; None where the broker names none, as brokers without Kafka's authorizer do."""
    if not isinstance(operations, list) or not operations:
        return None
    return sum(1 << OPERATIONS[name] for name in map(_camel, operations) if name in OPERATIONS)


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))

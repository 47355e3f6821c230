"""Writes the tables of rights in docs/security.md.

`python -m workers.operations.rights_doc` writes them, with `--check` it says whether they are stale.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from workers.kafka.rights import CLUSTER_COMMANDS, ROLES, Right, kafka_rights, redis_acl
from workers.settings import Settings

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- rights: written by `python -m workers.operations.rights_doc` -->", "<!-- end of rights -->"


def rights_text() -> str:
    """Return the generated part of the document."""
    settings = Settings.model_construct()
    return f"{BEGIN}\n\n{_kafka(settings)}\n{_redis(settings)}\n{END}"


def _kafka(settings: Settings) -> str:
    lines = ["### Kafka", "", "| role | who | rights |", "| --- | --- | --- |"]
    for role, who in ROLES.items():
        lines.append(f"| `{role}` | {who} | {_listed(kafka_rights(settings, role))} |")
    command = "kafka-acls.sh --bootstrap-server … --command-config …"
    lines += ["", f"As commands, with one principal per role. Put `{command}` in front of each line:", "", "```sh"]
    for role in ROLES:
        lines += _commands(role, kafka_rights(settings, role))
    return "\n".join([*lines, "```", ""])


def _listed(rights: Sequence[Right]) -> str:
    by_operation: dict[tuple[str, str], list[str]] = {}
    for right in rights:
        by_operation.setdefault((right.operation, right.resource), []).append(f"`{right.name}`")
    return "; ".join(f"{operation} on {resource} {', '.join(names)}" for (operation, resource), names in by_operation.items())


def _commands(role: str, rights: Sequence[Right]) -> list[str]:
    """One command for each set of operations on a kind of resource."""
    operations: dict[tuple[str, str], list[str]] = {}
    for right in rights:
        operations.setdefault((right.resource, right.name), []).append(right.operation)
    names: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (resource, name), allowed in operations.items():
        names.setdefault((resource, tuple(allowed)), []).append(name)
    return [
        f"--add --allow-principal User:{role}"
        + "".join(f" --operation {operation}" for operation in allowed)
        + "".join(f" --{resource} {name}" for name in of)
        for (resource, allowed), of in names.items()
    ]


def _redis(settings: Settings) -> str:
    rules = " ".join(redis_acl(settings))
    more = " ".join(f"+{command}" for command in CLUSTER_COMMANDS)
    return "\n".join(
        [
            "### Redis",
            "",
            "One user for stream workers and the command line; the trainer, publishers and readers need none. If `redis.namespace` is",
            "not `rs`, replace `rs` by it.",
            "",
            "```",
            f"ACL SETUSER recsys on >PASSWORD resetkeys -@all {rules}",
            "```",
            "",
            f"A Redis Cluster also needs `{more}`.",
            "",
        ]
    )


def document() -> str:
    """Return the whole document with its generated part as it should be."""
    text = DOCUMENT.read_text("utf-8")
    return text[: text.index(BEGIN)] + rights_text() + text[text.index(END) + len(END) :]


def stale() -> bool:
    """Return whether the document differs from the rights of this version."""
    return document() != DOCUMENT.read_text("utf-8")


def main(arguments: Sequence[str]) -> int:
    if arguments == ["--check"]:
        return int(stale())
    DOCUMENT.write_text(document(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

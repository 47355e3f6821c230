"""Describe a consumer group: who is in it, and which protocol its members speak."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from workers.kafka.admin import admin_client
from workers.kafka.rights import Right
from workers.settings import Settings


@dataclass(frozen=True, slots=True)
class Group:
    """The members of a group; `protocol` is the name of their assignor, empty while there are none."""

    n_members: int
    protocol: str


def describe_group(settings: Settings, group_id: str) -> Group:
    """Return a group; an unknown one has no members. Raises Transient, SettingsError."""
    from kafka import errors

    with admin_client(settings, Right("group", group_id, "Describe", "")) as admin:
        admin._process_acl_operations = _as_it_is
        unreadable = logging.getLogger("kafka.admin._groups")  # members of Faust's groups describe themselves in Faust's own format
        was_off, unreadable.disabled = unreadable.disabled, True
        try:
            found = admin.describe_groups([group_id]).get(group_id, {})
        except errors.BrokerResponseError:  # no coordinator yet: nobody has ever joined a group
            return Group(0, "")
        finally:
            unreadable.disabled = was_off
    return Group(len(found.get("members") or []), str(found.get("protocol_data") or ""))


def _as_it_is(group: dict[str, object]) -> dict[str, object]:
    """Return a description without the rights in it: Tansu sends numbers that kafka-python does not know."""
    return group

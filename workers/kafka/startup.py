"""Waits, before a worker starts, for a Kafka that accepts its settings and grants its rights.

A wrong setting ends the worker with one line. A server that is down and a right that is missing are waited for: both may come back.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
from pathlib import Path

from workers.errors import Fatal, SettingsError, Transient
from workers.kafka.admin import admin_client, missing_rights
from workers.kafka.probe import probe
from workers.kafka.rights import Role, denial, kafka_rights, leader_topic, on_topics
from workers.retry import Backoff
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.storage import check_url

log = logging.getLogger(__name__)

LONGEST_S = 10.0


def wait_until_usable(settings: Settings, role: Role, status: WorkerStatus, *, stop: threading.Event) -> None:
    """Return when Kafka answers and grants the role's rights, or when `stop` is set. Raises SettingsError for a setting that is wrong."""
    backoff = Backoff(longest_s=LONGEST_S)
    while not stop.is_set():
        problem = _problem(settings, role)
        if problem is None:
            status.clear("kafka")
            return
        status.block("kafka", problem)
        wait_s = backoff.next_s()
        if backoff.is_news(problem):
            log.warning("waiting: %s", problem)
        stop.wait(wait_s)


def _problem(settings: Settings, role: Role) -> str | None:
    """Return what keeps the worker from starting; None if nothing does."""
    try:
        probe(settings.kafka)
        return access_problem(settings, role)
    except Transient as error:
        return str(error)


def access_problem(settings: Settings, role: Role) -> str | None:
    """Return the rights that this worker lacks, as one line; None if it has all. Raises Transient, SettingsError.

    Asked only where Kafka knows who this is: without a login or a certificate there is nothing to grant.
    """
    if settings.kafka.security_protocol == "PLAINTEXT":
        return None
    lacking = missing_rights(settings, [right for right in kafka_rights(settings, role) if right.operation != "Create"])
    if lacking:
        return denial(settings.kafka, lacking)
    return _make_leader_topic(settings) if role == "trainer" else None


def _make_leader_topic(settings: Settings) -> str | None:
    """Make the topic that elects the leader, as Faust would; Faust ends where it may not. Return the right that is missing, if any."""
    from kafka import errors

    name = leader_topic(settings)
    with admin_client(settings) as admin:
        found = admin.describe_topics([name])[0].get("error_code", 0)
        if found != errors.UnknownTopicOrPartitionError.errno:
            return None
        try:
            admin.create_topics({name: {"num_partitions": 1, "replication_factor": settings.topics.replication_factor}})
        except errors.TopicAlreadyExistsError:
            return None
        except errors.AuthorizationError:
            return denial(settings.kafka, on_topics("Create", name))
    return None


def check_writable(setting: str, url: str) -> None:
    """Raise SettingsError when a local folder cannot be made or written, or the package for another kind of URL is not installed."""
    if "://" in url and not url.startswith("file://"):
        try:
            check_url(url)
        except Fatal as error:
            raise SettingsError(f"{setting}: {error}") from None
        return
    folder = Path(url.removeprefix("file://"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise SettingsError(f"{setting}: {folder} cannot be written ({reason}): choose a folder that this user may write") from None

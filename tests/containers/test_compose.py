"""`docker compose up` alone is a working system: events go in and lists come out on ports of this machine, also if a worker dies."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator

import pytest

from schemas import Event, Recommendations
from tests.containers.conftest import MIN_EVENTS, System, until
from tests.containers.engine import run
from workers.client import EventPublisher
from workers.kafka.admin import admin_client
from workers.lists.reader import newest_list
from workers.settings import Settings

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]

ANSWER_S = 60.0
OWN_SERVICES = ("stream", "trainer")
CATALOGUE = 30


@pytest.fixture
def publisher(system: System) -> Iterator[EventPublisher]:
    with EventPublisher(system.settings) as opened:
        yield opened


def answered(settings: Settings, event: Event) -> Recommendations | None:
    """Return the user's newest list if it answers that event: it names the event, or names none because it was deferred and made since."""
    made = newest_list(settings, event.user_id)
    if made is None:
        return None
    waited = made.trigger.event_id is None and made.generated_ts_ms >= event.event_ts_ms
    return made if waited or made.trigger.event_id == event.event_id else None


def publish_one_each(publisher: EventPublisher, users: list[str]) -> dict[str, Event]:
    """Publish one event of every user and wait for acknowledgements; return the events by user id."""
    sent = {user: publisher.publish(user_id=user, item_id=f"i{n % CATALOGUE}", type="play") for n, user in enumerate(users)}
    publisher.flush()
    return sent


def owners(settings: Settings) -> int:
    """Return the number of members of the stream workers' group that own partitions of the events topic."""
    with admin_client(settings) as admin:
        group = admin.describe_groups([settings.stream.group_id])[settings.stream.group_id]
    return sum(bool(member["member_assignment"]) for member in group["members"])


def test_events_from_the_host_are_answered_with_lists(system: System, publisher: EventPublisher) -> None:
    for n in range(CATALOGUE):
        publisher.publish_item({"item_id": f"i{n}", "title": f"Film {n}", "categories": [("drama", "comedy", "war")[n % 3]]})
    users = [f"host-{n}" for n in range(12)]  # of several partitions, so of both workers
    for user, event in publish_one_each(publisher, users).items():
        made = until(lambda event=event: answered(system.settings, event), f"a list of {user}", ANSWER_S)
        assert made.user_id == user
    made = until_listed(system.settings, publisher)
    assert made.items[0].sources and made.items[0].score == max(item.score for item in made.items)


def until_listed(settings: Settings, publisher: EventPublisher) -> Recommendations:
    """Wait until a list is not empty: then the workers have the catalogue."""

    def look() -> Recommendations | None:
        sent = publish_one_each(publisher, ["reader"])
        made: Recommendations = until(lambda: answered(settings, sent["reader"]), "a list", ANSWER_S)
        return made if made.items else None

    made: Recommendations = until(look, "a list with items", ANSWER_S)
    return made


def test_models_of_the_trainer_reach_the_lists_of_the_workers(system: System, publisher: EventPublisher) -> None:
    chance = random.Random(7)
    start_ms = time.time_ns() // 1_000_000 - 10_000_000
    for n in range(8 * MIN_EVENTS):  # three tastes, so that there is something to learn, and enough first touches to judge it by
        user = chance.randrange(450)
        item = 3 * chance.randrange(CATALOGUE // 3) + user % 3
        publisher.publish(user_id=f"taste-{user}", item_id=f"i{item}", type="like", event_ts_ms=start_ms + n * 1_000)
    publisher.flush()

    def look() -> Recommendations | None:
        sent = publish_one_each(publisher, ["taste-0"])
        made: Recommendations = until(lambda: answered(system.settings, sent["taste-0"]), "a list", ANSWER_S)
        return made if made.model_versions else None

    made = until(look, "a list that a model took part in", 180.0)
    assert set(made.model_versions) <= set(system.settings.trainer.kinds)


def test_lists_go_on_when_a_worker_is_killed(system: System, publisher: EventPublisher) -> None:
    until(lambda: owners(system.settings) == 2, "both workers own partitions", ANSWER_S)
    users = [f"kill-{n}" for n in range(24)]
    before = publish_one_each(publisher, users)
    victim, survivor = system.compose.running("stream")
    run("docker", "kill", victim["Id"])
    try:
        after = publish_one_each(publisher, users)
        for user, event in after.items():
            until(lambda event=event: answered(system.settings, event), f"a list of {user}", ANSWER_S)
        assert {event.event_id for event in before.values()}.isdisjoint(event.event_id for event in after.values())
        assert [container["Id"] for container in system.compose.running("stream")] == [survivor["Id"]]
    finally:
        run("docker", "start", victim["Id"])


def test_every_container_is_healthy_and_confined(system: System) -> None:
    def ailing() -> list[str]:
        return [c["Name"] for c in system.compose.containers() if c["State"].get("Health", {}).get("Status", "healthy") != "healthy"]

    until(lambda: not ailing(), "all containers are healthy", 150.0)
    for container in system.compose.containers():
        host, name = container["HostConfig"], container["Name"]
        assert container["Config"]["User"] not in ("", "0", "root", "0:0") and not host["Privileged"], name
        assert host["CapDrop"] == ["ALL"] and "no-new-privileges:true" in host["SecurityOpt"], name
        assert host["Memory"] > 0, name
        assert "kafka" in name or host["ReadonlyRootfs"], name
        published = [at for bindings in (container["NetworkSettings"]["Ports"] or {}).values() for at in bindings or []]
        assert all(at["HostIp"] == "127.0.0.1" for at in published), name
        assert bool(published) == ("kafka" in name), name


def test_workers_end_in_order_when_they_are_stopped(system: System) -> None:
    system.compose("stop", "--timeout", "25", *OWN_SERVICES)
    try:
        ended = {c["Name"]: c["State"]["ExitCode"] for service in OWN_SERVICES for c in system.compose.containers(service)}
        assert set(ended.values()) == {0}, ended
    finally:
        system.compose("start", *OWN_SERVICES)

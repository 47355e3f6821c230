"""The events do not depend on what happens in Faust's own consumer group."""

from __future__ import annotations

import asyncio

import faust
import pytest
from mode import Service

from workers.errors import Fatal
from workers.runtime.faust_app import OrderlyService
from workers.stream.app import StreamApp


class Started(Service):
    """Says that it was started."""

    abstract = False
    times = 0

    async def on_start(self) -> None:
        Started.times += 1


async def test_services_start_though_the_group_gives_no_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    app = StreamApp("waiting", store="memory://")
    app.service(Started)
    assigned = asyncio.Event()

    async def recovered() -> bool:
        await assigned.wait()
        return False

    monkeypatch.setattr(app, "_wait_for_table_recovery_completed", recovered)
    app._started.set()
    starting = asyncio.create_task(app.on_started())
    async with asyncio.timeout(5):
        while not Started.times:  # noqa: ASYNC110 (Faust decides)
            await asyncio.sleep(0)
    assert not starting.done()
    assigned.set()
    await starting
    assert Started.times == 1
    for service in app._extra_service_instances or ():
        await service.stop()


async def test_a_commit_that_comes_after_the_end_of_the_consumers_thread_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = StreamApp("crashed", store="memory://")._new_consumer()
    thread_loop = consumer._thread.thread_loop

    async def pending(*arguments: object, **options: object) -> bool:
        return await consumer._thread.commit({})

    monkeypatch.setattr(consumer, "force_commit", pending)
    thread_loop.close()  # as mode does when the thread has seen the crash of another service
    await consumer.commit_and_end_transactions()

    async def broken(*arguments: object, **options: object) -> bool:
        raise RuntimeError("of another kind")

    monkeypatch.setattr(consumer, "force_commit", broken)
    monkeypatch.setattr(consumer._thread, "thread_loop", asyncio.get_running_loop())
    with pytest.raises(RuntimeError, match="of another kind"):
        await consumer.commit_and_end_transactions()


class Failing(OrderlyService):
    """Cannot go on."""

    abstract = False


async def test_a_failure_stops_the_worker_and_tells_no_other_service_that_it_has_crashed() -> None:
    app = StreamApp("failing", store="memory://")
    worker = faust.Worker(app, loop=asyncio.get_running_loop())
    app.beacon.reattach(worker.beacon)
    failing, other = Failing(beacon=app.beacon), Started(beacon=app.beacon)
    reason = Fatal("the state is of another topic")
    await failing.crash(reason)
    await failing.crash(Fatal("and what came of it"))
    assert worker.crashed and worker.crash_reason is reason
    assert failing.should_stop and failing.crash_reason is reason
    assert not app.crashed and not other.crashed


async def test_a_failure_without_a_worker_is_modes_own_affair() -> None:
    alone = Failing()
    await alone.crash(reason := Fatal("alone"))
    assert alone.crashed and alone.crash_reason is reason

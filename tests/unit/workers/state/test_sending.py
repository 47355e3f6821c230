"""A write is in flight while its caller computes: sent before, acknowledged after."""

from __future__ import annotations

import asyncio

import pytest

from workers.state.sending import in_flight, note_sent


class Write:
    """A write whose steps the test can see. It is sent after some turns of the event loop, and acknowledged when the test says so."""

    def __init__(self, n_turns: int, fails_with: Exception | None = None) -> None:
        self.log: list[str] = []
        self.acknowledged = asyncio.Event()
        self._n_turns, self._fails_with = n_turns, fails_with

    async def run(self) -> None:
        try:
            for _ in range(self._n_turns):
                await asyncio.sleep(0)
            if self._fails_with is not None:
                raise self._fails_with
            await asyncio.create_task(self._send())  # as clients send in tasks of their own
            await self.acknowledged.wait()
            self.log.append("acknowledged")
        except asyncio.CancelledError:
            self.log.append("cancelled")
            raise

    async def _send(self) -> None:
        self.log.append("sent")
        note_sent()


@pytest.mark.parametrize("n_turns", [0, 1, 4, 50])
async def test_the_block_begins_when_the_write_is_sent_and_ends_with_its_acknowledgement(n_turns: int) -> None:
    write = Write(n_turns)
    async with in_flight(write.run()):
        assert write.log == ["sent"]
        write.log.append("computed")
        write.acknowledged.set()
    assert write.log == ["sent", "computed", "acknowledged"]


async def test_a_write_that_fails_before_it_is_sent_holds_nobody_up_and_raises_after_the_block() -> None:
    write, computed = Write(3, ConnectionError("away")), []
    with pytest.raises(ConnectionError, match="away"):
        async with in_flight(write.run()):
            computed.append(1)
    assert computed == [1]


async def test_a_block_that_fails_cancels_its_write_and_waits_for_its_end() -> None:
    write = Write(0)
    with pytest.raises(ZeroDivisionError):
        async with in_flight(write.run()):
            raise ZeroDivisionError
    assert write.log == ["sent", "cancelled"]


async def test_a_caller_that_is_cancelled_cancels_its_write() -> None:
    write = Write(0)

    async def caller() -> None:
        async with in_flight(write.run()):
            pass

    task = asyncio.create_task(caller())
    while "sent" not in write.log:  # noqa: ASYNC110 (turns of the event loop)
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert write.log == ["sent", "cancelled"]


async def test_two_writes_in_flight_do_not_signal_each_other() -> None:
    first, second = Write(0), Write(20)
    async with in_flight(first.run()):
        async with in_flight(second.run()):
            assert second.log == ["sent"]
            second.acknowledged.set()
        first.acknowledged.set()
    assert first.log[-1] == second.log[-1] == "acknowledged"


async def test_a_command_that_nobody_waits_for_signals_nothing() -> None:
    note_sent()

"""A worker that starts while Redis is away loses nothing of what its agents are given meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builders import play
from tests.conftest import TestStack
from tests.integration.test_stream import topics_of, workers
from tests.integration.test_stream_outages import own_valkey, said
from workers.operations.lookup import show_user
from workers.settings import Settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


async def test_a_catalogue_and_profiles_read_before_redis_answers_are_taken_in_when_it_does(
    stack: TestStack, settings: Settings, worker_env: dict[str, str], tmp_path: Path
) -> None:
    with own_valkey(tmp_path / "own") as server:
        mine = server.settings_of(settings)
        server.kill()
        async with topics_of(mine) as topics:
            for n in range(9):
                await topics.item(f"i{n}", title=f"film {n}", categories=["drama"])
            await topics.profile("newcomer", preferred_categories=["drama"])
            with workers(stack, {**worker_env, **server.env}) as (worker,):
                await said(worker, "waiting")
                server.start_again()
                await topics.until_answered("newcomer", 0)
                listed: set[str] = set()
                for n in range(200):  # items come of several partitions, so not all with one list
                    made = await topics.until_answered("u0", await topics.event(play("u0", "i0", n)))
                    listed = {item.item_id for item in made.items}
                    if len(listed) == 8:
                        break
                assert listed == {f"i{n}" for n in range(1, 9)}, worker.last_lines(20)
                assert (await show_user(mine, "newcomer"))["profile"] is not None
                assert "Crashed" not in worker.log.read_text()

"""Rules that are published to running workers, on a real broker and a real Redis: they reach lists, and a faulty set reaches none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.builders import START_MS, play
from tests.integration.test_cli import recsys
from tests.integration.test_stream import topics_of, workers
from workers.kafka.topics import provision
from workers.local.embedded import environment
from workers.settings import load_settings

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
DENY = {"name": "no i3", "when": 'item.id == "i3"', "action": "deny"}


async def test_published_rules_reach_lists_within_seconds_and_a_faulty_set_reaches_none(
    stack: Any, sections: dict[str, Any], worker_env: dict[str, str], tmp_path: Path
) -> None:
    sections = {**sections, "lists": {**sections.get("lists", {}), "rules_topic": True}}
    sections["topics"] = {**sections["topics"], "control": sections["topics"]["events"] + ".control"}
    settings, env = load_settings(**sections), {**worker_env, **environment(sections)}
    provision(settings)
    file = tmp_path / "rules.json"
    file.write_text(json.dumps([DENY]), "utf-8")
    async with topics_of(settings) as topics:
        with workers(stack, env):
            for n in range(6):
                await topics.item(f"i{n}", title=f"film {n}")
            offset = await topics.event(play("u1", "i0", 1, at_ms=START_MS))
            assert "i3" in {item.item_id for item in (await topics.until_answered("u1", offset)).items}
            said = recsys(env, "rules", "publish", str(file), "--by", "editor", "--note", "for once")
            assert said.returncode == 0 and "version 1 with 1 rules is published" in said.stdout, said.stderr

            async def denied(number: int) -> bool:
                found = await topics.until_answered("u1", await topics.event(play("u1", "i1", number, type="view", at_ms=START_MS)))
                return "i3" not in {item.item_id for item in found.items}

            for number in range(2, 60):
                if await denied(number):
                    break
            else:
                pytest.fail("the published rule changed no list")
            faulty = {"kind": "rules", "version": 2, "published_ts_ms": START_MS, "rules": [{**DENY, "when": "item.id =="}]}
            await topics._producer.send_and_wait(settings.topics.control, json.dumps(faulty).encode(), key=b"rules")
            await topics.until(lambda: bool(topics.dead), "a dead letter of the faulty set")
            assert topics.dead[0]["field"] == "rules.0.when" and "rule 'no i3'" in topics.dead[0]["reason"]
            assert await denied(100)
            shown = recsys(env, "rules", "show")
            assert "version 1" in shown.stdout and "editor" in shown.stdout and "is refused" in shown.stderr
            findings = json.loads(recsys(env, "doctor", "--json").stdout)
            assert any("version 1 by editor, 1 rules" in f["text"] for f in findings)

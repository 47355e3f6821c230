"""Every command does what it says against a real broker and Redis, and an error is one line with the right exit code."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer

from schemas import Recommendations, decode_event, decode_profile, encode, key_of
from tests import forked
from tests.integration.test_embedded_publisher import everything
from workers.cli.app import run as run_in_process
from workers.kafka.connection import aiokafka_producer_arguments
from workers.local.embedded import HOST, die_with_parent, free_port
from workers.settings import Settings


def recsys(env: dict[str, str], *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, forked from one that has imported everything."""
    return forked.spawner().run_command({**env, "COLUMNS": "200"}, *arguments, stdin=stdin)


def started(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a shell does: a new interpreter, 1 s of imports."""
    command = [sys.executable, "-m", "workers.cli", *arguments]
    env = {**env, "COLUMNS": "200", "PYTHONWARNINGS": "default::ResourceWarning"}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=180)


def made_list(user_id: str, source_offset: int, items: list[str], partition: int = 0) -> Recommendations:
    return Recommendations.model_validate(
        {
            "list_id": f"l{source_offset}",
            "user_id": user_id,
            "generated_ts_ms": 1_700_000_000_000 + source_offset,
            "trigger": {"partition": partition, "source_offset": source_offset},
            "variant": "default",
            "items": [
                {"rank": rank, "item_id": item, "score": 1.0 / rank, "sources": {"trending": 1.0 / rank}, "because": ["x"]}
                for rank, item in enumerate(items, 1)
            ],
        }
    )


async def publish_lists(settings: Settings, lists: list[Recommendations | tuple[bytes, None]]) -> None:
    producer = AIOKafkaProducer(**aiokafka_producer_arguments(settings))
    await producer.start()
    try:
        for made in lists:
            key, value = (key_of(made), encode(made)) if isinstance(made, Recommendations) else made
            await producer.send_and_wait(settings.topics.recommendations, value, key=key)
    finally:
        await producer.stop()


def test_topics_create_makes_them_once_and_list_names_what_is_missing(sections: dict[str, Any], worker_env: dict[str, str]) -> None:
    env = {**worker_env, "RECSYS_TOPICS__MODELS": f"{sections['topics']['models']}.new"}
    missing = started(env, "topics", "list", "--json")
    assert missing.returncode == 1 and missing.stderr.count("\n") == 1 and "recsys topics create" in missing.stderr
    assert sum(row["found_partitions"] is None for row in json.loads(missing.stdout)) == 1
    created = recsys(env, "topics", "create", "--json")
    assert [row["role"] for row in json.loads(created.stdout) if row["created"]] == ["models"]
    assert not any(row["created"] for row in json.loads(recsys(env, "topics", "create", "--json").stdout))
    assert recsys(env, "topics", "list").returncode == 0


def test_events_publish_sends_every_good_row_and_names_every_bad_line(
    tmp_path: Path, settings: Settings, worker_env: dict[str, str]
) -> None:
    file = tmp_path / "ratings.csv"
    file.write_text("userId,movieId,rating,ts\n1,10,5,1700000000\n2,11,bad,1700000001\n3,12,4,1700000002\n")
    arguments = ["--map", "user_id=userId,item_id=movieId,value=rating,event_ts_ms=ts", "--time-unit", "s", "--type", "rating"]
    run = recsys(worker_env, "events", "publish", str(file), *arguments, "--json")
    assert run.returncode == 1
    report = json.loads(run.stdout)
    assert (report["published"], report["bad"], report["bad_rows"][0]["line"]) == (2, 1, 3)
    assert f"{file}:3: value" in run.stderr
    records = everything(settings, settings.topics.events)
    events = [decode_event(r.value, r.key, record_ts_ms=r.timestamp, future_skew_ms=300_000) for r in records]
    assert sorted((e.user_id, e.item_id, e.value) for e in events) == [("1", "10", 5.0), ("3", "12", 4.0)]


def test_what_a_cut_file_sent_is_what_the_command_counts(tmp_path: Path, settings: Settings, worker_env: dict[str, str]) -> None:
    """C09: on a broker, what is on the topic; published again whole, rows have the same ids."""
    rows = "".join(f"u{i % 5},i{i * 7919 % 1009},play\n" for i in range(3_000))
    packed = gzip.compress(f"user_id,item_id,type\n{rows}".encode())
    file = tmp_path / "plays.csv.gz"
    ids = []
    for content, code in ((packed[: len(packed) * 6 // 10], 1), (packed, 0)):
        file.write_bytes(content)
        run = recsys(worker_env, "events", "publish", str(file), "--json")
        report = json.loads(run.stdout)
        assert run.returncode == code and report["rows"] == report["published"] > 0, run.stderr
        ids.append([json.loads(r.value)["event_id"] for r in everything(settings, settings.topics.events)])
        assert len(ids[-1]) == report["published"] + (len(ids[0]) if len(ids) > 1 else 0)
    assert set(ids[0]) <= set(ids[1]) and len(set(ids[1])) == 3_000


def test_events_publish_reads_standard_input(settings: Settings, worker_env: dict[str, str]) -> None:
    row = {"user_id": "u", "item_id": "i", "type": "view", "event_ts_ms": 1_700_000_000_000}
    run = recsys(worker_env, "events", "publish", "-", stdin=json.dumps(row) + "\n" + json.dumps({**row, "item_id": "j"}) + "\n")
    assert run.returncode == 0 and "published 2 events" in run.stdout
    assert len(everything(settings, settings.topics.events)) == 2


@pytest.mark.parametrize("command", [["items", "publish"], ["events", "publish", "--catalogue"]])
def test_the_catalogue_goes_to_the_items_topic(command: list[str], settings: Settings, worker_env: dict[str, str]) -> None:
    run = recsys(worker_env, *command, "-", stdin='{"item_id": "i", "title": "T", "categories": ["a"]}\n')
    assert run.returncode == 0, run.stderr
    assert [r.key for r in everything(settings, settings.topics.items)] == [b"i"]


def test_profiles_go_to_the_users_topic(tmp_path: Path, settings: Settings, worker_env: dict[str, str]) -> None:
    (tmp_path / "users.csv").write_text("id,Country,Likes\n7,DE,Jazz > Hard Bop\n")
    arguments = ["--map", "user_id=id,categorical_attributes.country=Country,preferred_categories=Likes"]
    run = recsys(worker_env, "users", "publish", str(tmp_path / "users.csv"), *arguments)
    assert run.returncode == 0 and "published 1 profiles" in run.stdout, run.stderr
    found = everything(settings, settings.topics.users)
    profile = decode_profile(found[0].value, found[0].key)
    assert profile is not None and profile.preferred_categories == ("Jazz", "Hard Bop")
    assert profile.categorical_attributes == {"country": "DE"}


async def test_lists_get_shows_the_newest_list_even_when_a_late_one_came_after_it(settings: Settings, worker_env: dict[str, str]) -> None:
    lists = [made_list("u", 1, ["a"]), made_list("v", 2, ["z"]), made_list("u", 9, ["b", "c"]), made_list("u", 4, ["late"])]
    await publish_lists(settings, [*lists, made_list("gone", 1, ["a"]), (b"gone", None)])
    shown = recsys(worker_env, "lists", "get", "u", "--json")
    assert [item["item_id"] for item in json.loads(shown.stdout)["items"]] == ["b", "c"]
    assert "trending" in recsys(worker_env, "lists", "get", "u").stdout
    for user in ("gone", "nobody"):
        run = recsys(worker_env, "lists", "get", user)
        assert run.returncode == 1 and run.stderr.count("\n") == 1
    tail = recsys(worker_env, "lists", "tail", "--from-start", "--user", "u", "-n", "3", "--json")
    assert [json.loads(line)["list_id"] for line in tail.stdout.splitlines()] == ["l1", "l9", "l4"]


def test_the_doctor_finds_nothing_on_a_sound_system_and_names_what_is_wrong(settings: Settings, worker_env: dict[str, str]) -> None:
    well = started(worker_env, "doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(well.stdout)}
    assert well.returncode == 0, well.stdout
    assert {"python", "kafka", "redis", "topic events", "event clock", "functions", "state"} <= set(findings)
    ill = recsys(
        {**worker_env, "RECSYS_TOPICS__PARTITIONS": "3", "RECSYS_REDIS__URL": f"redis://{HOST}:{free_port()}/0"}, "doctor", "--json"
    )
    assert ill.returncode == 1
    wrong = {finding["name"] for finding in json.loads(ill.stdout) if finding["state"] == "wrong"}
    assert {"topic events", "redis"} <= wrong
    assert all(finding["remedy"] for finding in json.loads(ill.stdout) if finding["state"] == "wrong")
    assert recsys({**worker_env, "RECSYS_KAFKA__BOOTSTRAP_SERVERS": f"{HOST}:{free_port()}"}, "doctor").returncode == 1


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["no-such"], 2),
        (["events", "publish"], 2),
        (["events", "publish", "x.jsonl", "--rate", "many"], 2),
        (["events", "publish", "x.xlsx"], 2),
        (["events", "publish", "x.jsonl", "--type", "glance"], 2),
        (["events", "publish", "x.jsonl", "--map", "usr=x"], 2),
        (["events", "publish", "no-such-file.jsonl"], 2),
        (["topics", "list"], 1),
        (["lists", "get", "u"], 1),
        (["items", "similar", "i"], 1),
        (["users", "show", "u"], 1),
    ],
)
def test_every_error_is_one_line_without_a_traceback(
    arguments: list[str], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{HOST}:{free_port()}"
    monkeypatch.setenv("RECSYS_KAFKA__BOOTSTRAP_SERVERS", address)
    monkeypatch.setenv("RECSYS_REDIS__URL", f"redis://{address}/0")
    assert run_in_process(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("recsys: ") and printed.err.count("\n") == 1


def test_up_starts_everything_says_how_to_reach_it_and_stops_all_of_it(tmp_path: Path) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")} | {"RECSYS_CONFIG": os.devnull, "COLUMNS": "200"}
    env_file = tmp_path / "env"
    command = [sys.executable, "-m", "workers.cli", "up", "--workers", "0", "--no-trainer", "--folder", str(tmp_path / "up")]
    with subprocess.Popen(
        [*command, "--env-file", str(env_file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        preexec_fn=die_with_parent(),
    ) as up:
        try:
            assert up.stdout is not None
            assert up.stdout.readline().startswith("up: broker 127.0.0.1:")
            deadline = time.monotonic() + 30
            while not env_file.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
            variables = dict(re.findall(r"export (\w+)='(.*)'", env_file.read_text()))
            assert started({**env, **variables}, "topics", "list").returncode == 0
        finally:
            up.send_signal(signal.SIGINT)
        up.communicate(timeout=180)
        assert up.returncode == 0
    assert recsys({**env, **variables, "RECSYS_KAFKA__REQUEST_TIMEOUT_MS": "1000"}, "topics", "list").returncode == 1

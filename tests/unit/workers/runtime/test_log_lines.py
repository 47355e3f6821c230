"""JSON log lines are one object each, keep secrets masked, and hold hashes where ids would be."""

from __future__ import annotations

import io
import json
import logging
import logging.config
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from pydantic import SecretStr

from tests.builders import TOPIC_ID, opened_pipeline, play, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.cli.worker import PassingErrors, logging_config, with_log_format
from workers.runtime.log_lines import JsonLines, LoggedId
from workers.runtime.redaction import hide_secrets
from workers.settings import LogSettings, load_settings

KEY = SecretStr("the same everywhere")


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger as a worker has it, writing JSON."""
    written = io.StringIO()
    config = logging_config("info", LogSettings(format="json", hash_key=KEY), "stream")
    handler = logging.StreamHandler(written)
    made = config["formatters"][config["handlers"]["stderr"]["formatter"]]
    handler.setFormatter(made["()"](made["worker"], made["hash_key"]))
    logger = logging.getLogger("workers.test_log_lines")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield logger, written
    logger.removeHandler(handler)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


def test_a_record_is_one_object_with_its_fields(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log
    logger.warning("two\nlines of %s", "text", extra={"kind": "not_json", "topic": "recsys.events", "odd": "left out"})
    (line,) = lines(written)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "WARNING", "logger": "workers.test_log_lines", "worker": "stream", "message": "two\\x0alines of text",
        "kind": "not_json", "topic": "recsys.events",
    }  # fmt: skip


def test_ids_are_hashed_alike_under_one_key_and_are_in_no_line(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log
    logger.info("no list for %s, %d tries", LoggedId("anna"), 3, extra={"user_id": "anna", "item_id": "film-1"})
    try:
        raise ValueError("broken")
    except ValueError:
        logger.exception("of %s", LoggedId("anna"))
    first, second = lines(written)
    assert "anna" not in written.getvalue() and "film-1" not in written.getvalue()
    assert first["user_id"] == JsonLines("", KEY).hashed("anna") and first["message"] == f"no list for {first['user_id']}, 3 tries"
    assert first["user_id"] != JsonLines().hashed("anna"), "without the key nobody can try ids"
    assert "ValueError: broken" in second["exception"]
    assert logging.Formatter().format(logging.LogRecord("x", 20, "", 1, "of %s", (LoggedId("anna"),), None)) == "of anna"


def test_secrets_stay_masked(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log
    hide_secrets(load_settings(redis={"password": "tr0ub4dor"}, logs={"hash_key": "correct-horse"}))
    logger.info("login with tr0ub4dor and %s", "correct-horse")
    assert lines(written)[0]["message"] == "login with ******** and ********"


async def test_no_message_of_a_pipeline_names_a_user_or_an_item(caplog: pytest.LogCaptureFixture) -> None:
    pipeline = await opened_pipeline(MemoryStore(), small_settings())
    await pipeline.assign([0], TOPIC_ID)
    with caplog.at_level(logging.DEBUG):
        facts = [play(f"user-{n % 3}", f"item-{n % 5}", n) for n in range(30)]
        outcome = await pipeline.process({0: records_of([*facts, None])})
    assert outcome.n_lists == 3 and outcome.dead_letters
    assert "user-" not in caplog.text and "item-" not in caplog.text


def test_the_option_overrides_the_setting_and_a_wrong_one_is_refused() -> None:
    chosen = load_settings(logs={"format": "json"})
    assert with_log_format(chosen, None).logs.format == "json" and with_log_format(chosen, "text").logs.format == "text"
    with pytest.raises(typer.BadParameter, match="text or json"):
        with_log_format(chosen, "xml")


@pytest.mark.parametrize(
    ("logger", "level", "becomes"),
    [
        ("aiokafka.consumer.fetcher", logging.ERROR, "WARNING"),
        ("kafka.conn", logging.ERROR, "WARNING"),
        ("aiokafka", logging.CRITICAL, "CRITICAL"),
        ("workers.stream.app", logging.ERROR, "ERROR"),
    ],
)
def test_a_broker_that_is_away_is_no_error(logger: str, level: int, becomes: str) -> None:
    record = logging.LogRecord(logger, level, "", 1, "Failed fetch messages from 1", (), None)
    assert PassingErrors().filter(record) and record.levelname == becomes

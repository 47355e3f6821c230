"""What a worker's log shows of an error: a line where somebody can act, a traceback where the program is wrong."""

from __future__ import annotations

import logging

import pytest
from aiokafka.errors import KafkaConnectionError

from workers.cli.worker import OneLineErrors
from workers.errors import Fatal


def record_of(logger: str, error: Exception) -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, __file__, 1, "stopping: %r", (error,), (type(error), error, None))


@pytest.mark.parametrize(
    ("logger", "error"),
    [
        ("workers.stream", Fatal("do this")),
        ("faust.transport.drivers.aiokafka", RuntimeError("Event loop is closed")),
        ("mode.services", KafkaConnectionError("closed")),
    ],
)
def test_our_errors_and_those_inside_libraries_are_one_line(logger: str, error: Exception) -> None:
    record = record_of(logger, error)
    assert OneLineErrors().filter(record)
    assert record.exc_info is None
    assert repr(error) in record.getMessage()


@pytest.mark.parametrize(("logger", "libraries"), [("workers.events_service", True), ("faust.app", False)])
def test_a_bug_and_everything_at_debug_keep_their_traceback(logger: str, libraries: bool) -> None:
    record = record_of(logger, KeyError("bug"))
    assert OneLineErrors(libraries=libraries).filter(record)
    assert record.exc_info is not None

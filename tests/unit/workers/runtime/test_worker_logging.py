"""What a worker's log shows of an error: a line where somebody can act, a traceback where the program is wrong."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from aiokafka.errors import KafkaConnectionError

from workers.cli.worker import OneLineErrors, _Deadline
from workers.errors import Fatal


def record_of(logger: str, error: Exception) -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, __file__, 1, "stopping: %r", (error,), (type(error), error, None))


@pytest.mark.parametrize(
    ("logger", "error"),
    [
        ("workers.stream.app", Fatal("do this")),
        ("faust.transport.drivers.aiokafka", RuntimeError("Event loop is closed")),
        ("mode.services", KafkaConnectionError("closed")),
    ],
)
def test_our_errors_and_those_inside_libraries_are_one_line(logger: str, error: Exception) -> None:
    record = record_of(logger, error)
    assert OneLineErrors().filter(record)
    assert record.exc_info is None
    assert repr(error) in record.getMessage()


@pytest.mark.parametrize(("logger", "libraries"), [("workers.stream.service", True), ("faust.app", False)])
def test_a_bug_and_everything_at_debug_keep_their_traceback(logger: str, libraries: bool) -> None:
    record = record_of(logger, KeyError("bug"))
    assert OneLineErrors(libraries=libraries).filter(record)
    assert record.exc_info is not None


def test_a_stop_that_never_ends_is_ended_with_a_line_and_the_code_of_its_reason() -> None:
    program = "import time; from workers.cli.worker import _Deadline; d = _Deadline(0.2); d.start({}); time.sleep(60)"
    for failure, code in (("ValueError('set it')", 1), ("None", 0)):
        ended = subprocess.run([sys.executable, "-c", program.format(failure)], capture_output=True, text=True, timeout=30)
        assert ended.returncode == code and "not stopped after 0 s" in ended.stderr and "Traceback" not in ended.stderr
        assert ended.stderr.endswith("set it\n") == bool(code), "the last line says why"


def test_a_stop_in_time_is_left_alone() -> None:
    deadline = _Deadline(0.05)
    deadline.start(None)
    deadline.cancel()
    assert deadline._timer is not None
    deadline._timer.join(5.0)
    assert not deadline._timer.is_alive()

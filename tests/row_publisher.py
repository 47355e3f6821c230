"""A publisher that records its input, and the publish commands run on it: no broker is needed to see how a file is read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

from schemas import Event, Item, check_times, encode, from_fields
from workers import client
from workers.cli.app import app, run
from workers.client import check_not_ahead
from workers.runtime.trimmed import TrimmedFields

FUTURE_SKEW_S = 300
COMMAND = typer.main.get_command(app)


class RecordingPublisher:
    """Validates as `EventPublisher` does and keeps the records."""

    def __init__(self, *_: Any) -> None:
        self.records: list[Any] = []
        self.trimmed = TrimmedFields()

    def publish(self, event: Mapping[str, Any], /) -> None:
        record = from_fields(Event, event)
        check_not_ahead(record, FUTURE_SKEW_S)
        encode(record)
        self.records.append(record)

    def publish_item(self, item: Mapping[str, Any]) -> None:
        shortened: Counter[str] = Counter()
        record = from_fields(Item, item, shortened=shortened)
        self.trimmed.add("item", shortened)
        check_times(record)
        encode(record)
        self.records.append(record)

    def flush(self) -> None:
        pass

    def __enter__(self) -> RecordingPublisher:
        return self

    def __exit__(self, *_: Any) -> None:
        pass


@dataclass
class Outcome:
    """The result of one command: exit code, output, sent records."""

    code: int
    out: str
    err: str
    records: list[Any] = field(default_factory=list)

    @property
    def report(self) -> dict[str, Any]:
        return dict(json.loads(self.out))

    @property
    def ids(self) -> list[tuple[str, str]]:
        return [(record.user_id, record.item_id) for record in self.records]

    def check(self) -> Outcome:
        """Check what holds for every outcome: no traceback, consistent counts, nothing sent if the exit code is 2."""
        assert "Traceback" not in self.err and "unexpected" not in self.err, self.err
        if self.code == 2:
            assert not self.records and not self.out and self.err.startswith("recsys: ") and self.err.count("\n") == 1, self.err
            return self
        assert self.code in (0, 1)
        report = self.report
        assert report["rows"] == report["published"] + report["bad"] + report["undelivered"]
        assert report["published"] == len(self.records)
        assert (self.code == 0) == (report["bad"] == 0 and report["error"] is None)
        return self


class Shell:
    """Runs `recsys … publish` in this process, with a recording publisher in place of the broker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        monkeypatch.setattr(typer.main, "get_command", lambda app: COMMAND)  # building it takes longer than a run
        monkeypatch.setattr("workers.cli.app._mount_models", lambda arguments: None)

    def publish(self, file: Path | str, *options: str, kind: str = "events") -> Outcome:
        publisher = RecordingPublisher()
        self._monkeypatch.setattr(client, "EventPublisher", lambda *_: publisher)
        self._capfd.readouterr()
        code = run([kind, "publish", str(file), "--json", *options])
        captured = self._capfd.readouterr()
        return Outcome(code, captured.out, captured.err, publisher.records).check()

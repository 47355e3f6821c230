"""A publisher that records its input, and the publish commands run on it: no broker is needed to see how a file is read."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer

from workers import client
from workers.cli.app import run, whole_tree
from workers.client import DryRun

FUTURE_SKEW_S = 300
COMMAND = whole_tree()


class RecordingPublisher(DryRun):
    """Validates as `EventPublisher` does and keeps the records."""

    def __init__(self, *_: Any) -> None:
        super().__init__(FUTURE_SKEW_S)
        self.records: list[Any] = []

    def publish(self, event: Any, /) -> Any:
        self.records.append(super().publish(event))

    def publish_item(self, item: Any) -> Any:
        self.records.append(super().publish_item(item))

    def publish_profile(self, profile: Any) -> Any:
        self.records.append(super().publish_profile(profile))

    def __enter__(self) -> RecordingPublisher:
        return self


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
        would_publish = report.get("would_publish", 0)
        assert report["rows"] == report["published"] + would_publish + report["bad"] + report["undelivered"] + report["merged"]
        assert sum(reason["rows"] for reason in report["reasons"]) == report["bad"]
        assert report["published"] == len(self.records)
        assert (self.code == 0) == (report["bad"] == 0 and report["error"] is None)
        return self


class Shell:
    """Runs `recsys … publish` in this process, with a recording publisher in place of the broker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capfd = capfd
        monkeypatch.setattr(typer.main, "get_command", lambda app: COMMAND)  # building it takes longer than a run

    def publish(self, file: Path | str, *options: str, kind: str = "events") -> Outcome:
        publisher = RecordingPublisher()
        self._monkeypatch.setattr(client, "EventPublisher", lambda *_: publisher)
        self._capfd.readouterr()
        code = run([kind, "publish", str(file), "--json", *options])
        captured = self._capfd.readouterr()
        return Outcome(code, captured.out, captured.err, publisher.records).check()


class Files:
    """Writes files of a test and publishes them."""

    def __init__(self, shell: Shell, folder: Path) -> None:
        self._shell = shell
        self.folder = folder

    def __call__(self, name: str, content: str | bytes, *options: str, kind: str = "events") -> Outcome:
        file = self.folder / name
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        return self._shell.publish(file, *options, kind=kind)

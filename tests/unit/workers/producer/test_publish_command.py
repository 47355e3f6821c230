"""The publish commands say what they do: what is missing, how far they are, what they would refuse, and how to go on after Ctrl-C."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.row_publisher import FUTURE_SKEW_S, Files, RecordingPublisher, Shell
from workers import client
from workers.cli.app import run
from workers.client import DryRun, PublishError
from workers.errors import Transient
from workers.producer.extent import Extent
from workers.producer.files import Reading, open_rows
from workers.producer.mapping import RowMapping
from workers.producer.publish import publish_rows
from workers.producer.rows import Row

T = 1_763_200_000_000
HEADER = "user_id,item_id,type,event_ts_ms\n"


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Files:
    return Files(Shell(monkeypatch, capfd), tmp_path)


MISSING = [
    ("a.csv", "usr,itm,kind\nu,i,play\n", (), ("user_id", "item_id", "type"), ("usr", "itm", "kind")),
    ("a.tsv", "usr\titm\tkind\nu\ti\tplay\n", (), ("user_id", "item_id", "type"), ("usr", "itm", "kind")),
    ("a.jsonl", '{"usr": "u", "itm": "i", "kind": "play"}\n' * 30, (), ("user_id", "item_id", "type"), ("usr", "itm", "kind")),
    ("a.csv", "user_id,item_id,type\nu,i,play\n", ("--map", "value=amount,position=rank"), ("amount", "rank"), ("user_id, item_id, type",)),
    ("a.jsonl", '{"user_id": "u"}\n' * 30, ("--map", "event_ts_ms=moment,type=kind"), ("moment", "kind"), ("they have user_id",)),
    ("a.jsonl", '{"user_id": "u", "item_id": "i"}\n' * 30, (), ("type",), ("user_id, item_id",)),
]


@pytest.mark.parametrize(("name", "content", "options", "missing", "there"), MISSING)
def test_all_missing_columns_are_named_once_with_those_there_are(
    publish: Files, name: str, content: str, options: tuple[str, ...], missing: tuple[str, ...], there: tuple[str, ...]
) -> None:
    found = publish(name, content, *options)
    assert found.code == 2
    said = found.err.partition(": pass")[0]  # the remedy names the fields again
    assert all(len(re.findall(rf"\b{column}\b", said)) == 1 for column in missing), said
    assert all(column in found.err for column in there)


def test_parquet_and_folders_name_a_missing_column_once_too(publish: Files, tmp_path: Path) -> None:
    file = io.BytesIO()
    pq.write_table(pa.table({"usr": ["u"], "item_id": ["i"], "type": ["play"]}), file)
    for name in ("a.parquet", "folder"):
        if name == "folder":
            (tmp_path / name).mkdir()
            for part in ("x.csv", "y.csv"):
                (tmp_path / name / part).write_text("usr,item_id,type\nu,i,play\n")
            found = publish._shell.publish(tmp_path / name)
        else:
            found = publish(name, file.getvalue())
        assert found.code == 2 and found.err.count("user_id") == 2 and "usr" in found.err  # missing, and in the remedy


def rows_of(n: int) -> str:
    return HEADER + "".join(f"u{at},i{at * 7919 % 1009},play,{T + at}\n" for at in range(n))


def test_a_dry_run_needs_no_broker_publishes_nothing_and_counts_refusals_by_reason(
    publish: Files, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = HEADER + f"u,i,play,{T}\nu,,play,{T}\nu,i,watch,{T}\nv,,play,{T}\nw,,play,{T}\nx,,play,{T}\nx,j,play,{T + 10**12}\nx,j\n"
    found = publish("a.csv", content, "--dry-run")
    report = found.report
    assert found.code == 1 and found.records == [] and report["dry_run"] is True
    assert (report["rows"], report["published"], report["would_publish"], report["bad"]) == (8, 0, 1, 7)
    assert report["reasons"][0] == {"reason": "item_id: missing or blank", "rows": 4, "examples": [{"line": 3}, {"line": 5}, {"line": 6}]}
    assert len(report["reasons"]) == 4 and "--types" in str(report["reasons"])
    monkeypatch.setenv("RECSYS_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr(client, "EventPublisher", None)  # calling it would fail
    capfd.readouterr()
    for kind, rows in (("events", content), ("items", "item_id,title\ni,T\n"), ("users", "user_id\nu\n")):
        (tmp_path / f"{kind}.csv").write_text(rows)
        assert run([kind, "publish", str(tmp_path / f"{kind}.csv"), "--dry-run"]) == (1 if kind == "events" else 0)
        out = capfd.readouterr().out
        assert out.startswith(f"a dry run: 1 {'profiles' if kind == 'users' else kind} would be published")
        assert kind != "events" or "4 rows: item_id: missing or blank (" in out


def test_a_dry_run_accepts_what_a_real_run_publishes(publish: Files) -> None:
    content = rows_of(50).replace("u7,", ",").replace("u9,", "NULL,") + "u,i,play,soon\n" + '{"x"\n'
    dry, real = publish("a.csv", content, "--dry-run"), publish("a.csv", content)
    assert dry.report["would_publish"] == real.report["published"] == len(real.records)
    assert dry.report["bad_rows"] == real.report["bad_rows"] and dry.report["warnings"] == real.report["warnings"]


class InterruptedAt(RecordingPublisher):
    """Raises Ctrl-C at one event, and what the test wants while flushing."""

    def __init__(self, at: int, flushing: BaseException | None = None, n_unacknowledged: int = 0) -> None:
        super().__init__()
        self._at, self._flushing, self._n = at, flushing, n_unacknowledged
        self.closed_within: float | None = None

    def publish(self, event: Any, /) -> Any:
        if len(self.records) == self._at:
            raise KeyboardInterrupt
        super().publish(event)

    def flush(self, timeout_s: float | None = None) -> None:
        if self._flushing is not None:
            raise self._flushing

    @property
    def n_unacknowledged(self) -> int:
        return self._n

    def close(self, timeout_s: float | None = None) -> None:
        self.closed_within = timeout_s


@pytest.mark.parametrize("at", [0, 1, 37])
def test_ctrl_c_says_how_many_went_out_and_the_option_it_names_publishes_exactly_the_rest(
    at: int, publish: Files, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    file = publish.folder / "a.csv"
    same = "".join(f"u,i,play,{T}\n" for _ in range(20))  # equal rows, told apart by their number
    file.write_text(rows_of(30) + ",no user,play,1\n" + same)
    interrupted = InterruptedAt(at)
    monkeypatch.setattr(client, "EventPublisher", lambda *_: interrupted)
    capfd.readouterr()
    assert run(["events", "publish", str(file), "--json"]) == 130
    captured = capfd.readouterr()
    report = json.loads(captured.out)
    assert report["interrupted"] and report["published"] == at == report["rows"] - report["bad"] and f"{at} published" in captured.err
    assert interrupted.closed_within is not None and interrupted.closed_within < 5
    skip = re.search(r"--skip-rows (\d+)", captured.err)
    assert skip is not None
    rest = publish("a.csv", file.read_text(), "--skip-rows", skip[1])
    whole = publish("a.csv", file.read_text())
    assert rest.report["skipped"] == int(skip[1]) and [*interrupted.records, *rest.records] == whole.records


def test_ctrl_c_while_waiting_for_the_broker_counts_what_is_not_acknowledged() -> None:
    rows = [Row(at, {"user_id": "u", "item_id": f"i{at}", "type": "play", "event_ts_ms": T}) for at in range(9)]
    for failure in (KeyboardInterrupt(), Transient("2 records are not acknowledged yet")):
        for at in (5, 100):
            report = publish_rows(rows, RowMapping("events", {}, True), InterruptedAt(at, failure, 2))
            n = min(at, len(rows))
            assert (report.rows, report.published, report.undelivered) == (n, n - 2, 2) and report.error
            assert report.interrupted == (isinstance(failure, KeyboardInterrupt) or at < 9)
            assert not report.interrupted or "publish the file again" in report.error


def test_ctrl_c_before_the_first_row_is_one_line(
    publish: Files, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(client, "EventPublisher", interrupted)
    (publish.folder / "a.csv").write_text(rows_of(3))
    capfd.readouterr()
    assert run(["events", "publish", str(publish.folder / "a.csv"), "--json"]) == 130
    captured = capfd.readouterr()
    assert captured.out == "" and captured.err == "recsys: interrupted before the first row: nothing was published\n"


def test_skipping_more_rows_than_there_are_publishes_nothing(publish: Files) -> None:
    found = publish("a.csv", rows_of(3), "--skip-rows", "10")
    assert found.code == 0 and (found.report["rows"], found.report["skipped"]) == (0, 3) and found.report["warnings"] == []


def measured(path: Path | str) -> tuple[Extent, list[int]]:
    """Read a file to its end; returns its extent, and how much was done before each row."""
    extent = Extent()
    with open_rows(str(path), Reading(), RowMapping("events", {}, True), extent) as rows:
        return extent, [extent.done() for _ in rows]


def test_progress_has_a_total_of_bytes_or_rows_and_none_on_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = rows_of(20_000)
    (tmp_path / "a.csv").write_text(text)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    pq.write_table(pa.table({name: ["1"] * 9_000 for name in ("user_id", "item_id", "type")}), tmp_path / "a.parquet")
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text(text)
    tables = tmp_path / "tables"
    tables.mkdir()
    for name in ("a.parquet", "b.parquet"):
        (tables / name).write_bytes((tmp_path / "a.parquet").read_bytes())
    totals: dict[Path, tuple[str, int]] = {
        tmp_path / "a.csv": ("bytes", len(text)),
        tmp_path / "a.csv.gz": ("bytes", (tmp_path / "a.csv.gz").stat().st_size),
        folder: ("bytes", 2 * len(text)),
        tmp_path / "a.parquet": ("rows", 9_000),
        tables: ("rows", 18_000),
    }
    for path, (unit, total) in totals.items():
        extent, done = measured(path)
        assert (extent.unit, extent.total, extent.done()) == (unit, total, total)
        assert done == sorted(done) and 0 < done[0] < total / 2 and len(set(done)) > 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"user_id": "u", "item_id": "i", "type": "play"}\n')))
    assert measured("-")[0].total is None


def test_records_are_checked_alike_by_a_dry_run_and_a_publisher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.EventPublisher, "_connect", lambda self: None)
    publisher, dry = client.EventPublisher(), DryRun(FUTURE_SKEW_S)
    event = {"event_id": "e", "user_id": "u", "item_id": "i", "type": "play", "event_ts_ms": T}
    bad: list[tuple[str, dict[str, Any]]] = [
        ("publish", event | {"type": "watch"}), ("publish", event | {"event_ts_ms": T + 10**12}),
        ("publish", event | {"user_id": "\ud800"}),
        ("publish", event | {"unknown": 1}), ("publish_item", {"item_id": "i", "expires_ts_ms": 5}), ("publish_item", {"title": "x"}),
        ("publish_profile", {"user_id": ""}),
    ]  # fmt: skip
    for method, fields in bad:
        errors = []
        for target in (publisher, dry):
            with pytest.raises(Exception, match=r".") as raised:
                getattr(target, method)(dict(fields))
            errors.append((type(raised.value), str(raised.value)))
        assert errors[0] == errors[1]
    publisher._closed = True


def test_what_closing_gives_up_after_ctrl_c_is_not_counted_twice(
    publish: Files, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Closing(InterruptedAt):
        def close(self, timeout_s: float | None = None) -> None:
            raise PublishError("2 records are not acknowledged yet", self.records[-2:])

    made = Closing(5, Transient("late"), 2)
    monkeypatch.setattr(client, "EventPublisher", lambda *_: made)
    (publish.folder / "a.csv").write_text(rows_of(9))
    capfd.readouterr()
    assert run(["events", "publish", str(publish.folder / "a.csv"), "--json"]) == 130
    report = json.loads(capfd.readouterr().out)
    assert (report["rows"], report["published"], report["undelivered"]) == (5, 3, 2)

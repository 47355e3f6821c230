"""How times of a file are written is detected over the column, reported, and asked for where the file does not say it."""

from __future__ import annotations

import datetime as dt
import io
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.row_publisher import Files, Shell
from workers.errors import SettingsError
from workers.producer.rows import BadRow
from workers.producer.time_columns import TimeColumn
from workers.producer.time_text import read_time_text
from workers.producer.times import Clock, TimeOptions, zone_of

BERLIN = zone_of("Europe/Berlin")
UTC = dt.UTC
MOMENT = dt.datetime(2025, 11, 15, 15, 4, 5, tzinfo=UTC)
MOMENT_MS = 1_763_219_045_000
HEADER = "user_id,item_id,type,event_ts_ms\n"


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Files:
    return Files(Shell(monkeypatch, capfd), tmp_path)


def csv_of(*times: str) -> str:
    return HEADER + "".join(f'u,i{at},play,"{time}"\n' for at, time in enumerate(times))


WITH_ZONE = [
    "2025-11-15T15:04:05Z", "2025-11-15 15:04:05+00:00", "2025-11-15 16:04:05 +0100", "2025-11-15 10:04:05 -05:00",
    "2025-11-15T15:04:05.000000Z", "20251115T150405Z", "2025-11-15T16:04:05+01:00[Europe/Berlin]", "2025-11-15 15:04:05 UTC",
    "Sat, 15 Nov 2025 15:04:05 GMT", "Sat, 15 Nov 2025 16:04:05 +0100", "15/Nov/2025:15:04:05 +0000".replace(":", " ", 1).replace("/", " "),
    "Sat Nov 15 2025 16:04:05 GMT+0100 (Central European Standard Time)", "2025/11/15 15:04:05 Z", "Nov 15, 2025 3:04:05 PM UTC",
    "15 November 2025 at 15:04:05 UTC", "November 15th, 2025, 15:04:05 UTC",
    "Sat Nov 15 07:04:05 -0800 2025", "Sat Nov 15 15:04:05 UTC 2025",
]  # fmt: skip


@pytest.mark.parametrize("text", WITH_ZONE)
def test_times_with_a_zone_need_no_option(publish: Files, text: str) -> None:
    found = publish("a.csv", csv_of(text))
    assert [r.event_ts_ms for r in found.records] == [MOMENT_MS] and found.report["warnings"] == []


WITHOUT_ZONE = [
    "2025-11-15 15:04:05", "2025-11-15T15:04:05.000", "2025/11/15 15:04:05", "15.11.2025 15:04:05", "15/11/2025 15:04:05",
    "11/15/2025 15:04:05", "11/15/2025, 3:04:05 PM", "15-11-2025 15:04:05", "15-Nov-2025 15:04:05", "Nov 15, 2025 3:04:05 p.m.",
    "20251115150405", "Sat Nov 15 15:04:05 2025",
]  # fmt: skip


@pytest.mark.parametrize("text", WITHOUT_ZONE)
def test_times_without_a_zone_need_one_and_are_read_in_it(publish: Files, text: str) -> None:
    refused = publish("a.csv", csv_of(text))
    assert (refused.code == 2 and "--time-zone" in refused.err) or text.isdigit()
    for zone, hours in (("UTC", 0), ("+05:00", 5), ("Asia/Kolkata", 5.5)):
        found = publish("a.csv", csv_of(text), "--time-zone", zone)
        assert [r.event_ts_ms for r in found.records] == [MOMENT_MS - hours * 3_600_000]
        assert f"in {zone_of(zone)}" in found.report["time_formats"]["event_ts_ms"]


def test_a_zone_less_row_later_in_the_file_is_refused_alone(publish: Files) -> None:
    times = ["2025-11-15T15:04:05Z"] * 250 + ["2025-11-15T15:04:05"]
    found = publish("a.csv", csv_of(*times))
    assert found.report["bad"] == 1 and "--time-zone" in found.report["bad_rows"][0]["reason"]


AMBIGUOUS = ["03/04/2025 10:00", "05/06/2025 10:00"]


def test_day_and_month_are_told_apart_by_the_whole_column_or_by_the_option(publish: Files) -> None:
    zone = ("--time-zone", "UTC")
    assert "--time-format day-first" in publish("a.csv", csv_of(*AMBIGUOUS), *zone).err
    april, march = (int(dt.datetime(2025, month, day, 10, tzinfo=UTC).timestamp() * 1_000) for month, day in ((4, 3), (3, 4)))
    for late, order, expected in (("25/12/2024 9:00", "day-first", april), ("12/25/2024 9:00", "month-first", march)):
        chosen = publish("a.csv", csv_of(*AMBIGUOUS), *zone, "--time-format", order)
        assert chosen.records[0].event_ts_ms == expected
        content = csv_of(*AMBIGUOUS, *["03/03/2025 1:00"] * 2_000, late)  # beyond the start that is looked at
        detected = publish("a.csv", content, *zone)
        assert detected.code == 0 and detected.records[0].event_ts_ms == expected
        assert order.replace("-", " ") in detected.report["time_formats"]["event_ts_ms"]
    both = publish("a.csv", csv_of(*AMBIGUOUS, "25/12/2024 9:00", "12/25/2024 9:00"), *zone)
    assert both.code == 2 and "line 4" in both.err and "line 5" in both.err
    same = publish("a.csv", csv_of("05/05/2025"))
    assert same.records[0].event_ts_ms == int(dt.datetime(2025, 5, 5, tzinfo=UTC).timestamp() * 1_000)


def test_parts_of_a_folder_are_one_column_and_a_pipe_is_not_read_twice(
    publish: Files, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = publish.folder / "days"
    folder.mkdir()
    (folder / "a.csv").write_text(csv_of("03/04/2025"))
    (folder / "b.csv").write_text(csv_of("04/04/2025", "25/04/2025"))
    shell = Shell(monkeypatch, capfd)
    assert shell.publish(folder).records[0].event_ts_ms == int(dt.datetime(2025, 4, 3, tzinfo=UTC).timestamp() * 1_000)
    (folder / "c.csv").write_text(csv_of("04/25/2025"))
    assert "some dates are day first and some month first" in shell.publish(folder).err
    for content, code in ((csv_of("03/04/2025", "25/04/2025"), 0), (csv_of("03/04/2025"), 2)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content.encode())))
        assert shell.publish("-", "--format", "csv").code == code


def test_a_pattern_reads_what_nothing_else_does_and_is_checked(publish: Files) -> None:
    refused = publish("a.csv", csv_of("15.11.25 15h04"))
    assert refused.code == 2 and "--time-format" in refused.err and "line 2" in refused.err
    found = publish("a.csv", csv_of("15.11.25 15h04", "soon"), "--time-format", "%d.%m.%y %Hh%M", "--time-zone", "UTC")
    assert [r.event_ts_ms for r in found.records] == [MOMENT_MS - 5_000] and found.report["bad"] == 1
    zoned = publish("a.csv", csv_of("2025_11_15 16:04:05 +0100"), "--time-format", "%Y_%m_%d %H:%M:%S %z")
    assert [r.event_ts_ms for r in zoned.records] == [MOMENT_MS]
    assert [r.event_ts_ms for r in publish("a.csv", csv_of("15.11.25"), "--time-format", "%d.%m.%y").records] == [1_763_164_800_000]
    for wrong in ("dmy", "%", "%H:%M", "%Q", "", "%d.%m"):
        assert "--time-format" in publish("a.csv", csv_of("x"), "--time-format", wrong).err


def test_digits_of_dates_and_days_of_spreadsheets_are_known(publish: Files) -> None:
    found = publish("a.csv", csv_of("20251115", "20251116"))
    assert [r.event_ts_ms for r in found.records] == [1_763_164_800_000, 1_763_251_200_000]
    assert "midnight" in found.report["warnings"][0]
    assert "spreadsheet" in publish("a.csv", csv_of("45976.5", "45977.25")).err


def test_the_fields_of_one_file_may_have_formats_of_their_own(publish: Files) -> None:
    content = "item_id,published_ts_ms,expires_ts_ms\ni,1763200000,2026-11-15T00:00:00Z\nj,-86400,\n"
    found = publish("a.csv", content, kind="items")
    assert [(r.published_ts_ms, r.expires_ts_ms) for r in found.records] == [(1_763_200_000_000, 1_794_700_800_000), (-86_400_000, None)]
    assert found.report["time_formats"] == {
        "published_ts_ms": "seconds since 1970",
        "expires_ts_ms": "ISO 8601 with a time zone",
    }


def test_a_local_time_that_does_not_exist_or_exists_twice_is_refused_unless_the_option_says_which() -> None:
    gap, twice = dt.datetime(2025, 3, 30, 2, 30), dt.datetime(2025, 10, 26, 2, 30)
    for value in (gap, gap.isoformat(" "), "30.03.2025 02:30"):
        with pytest.raises(BadRow, match="does not have"):
            Clock("ms", BERLIN, order="day-first").to_ms(value)
    with pytest.raises(BadRow, match="twice"):
        Clock("ms", BERLIN).to_ms(twice)
    first, second = (Clock("ms", BERLIN, repeated_hour=which).to_ms(twice) for which in ("first", "second"))  # type: ignore[arg-type]
    assert second - first == 3_600_000
    assert first == int(dt.datetime(2025, 10, 26, 0, 30, tzinfo=UTC).timestamp() * 1_000)
    assert Clock("ms", zone_of("+01:00")).to_ms(gap) == int(dt.datetime(2025, 3, 30, 1, 30, tzinfo=UTC).timestamp() * 1_000)


def test_a_date_is_the_first_moment_of_its_day_also_where_midnight_does_not_exist() -> None:
    havana = zone_of("America/Havana")  # clocks go from 0:00 to 1:00 in March, and from 1:00 to 0:00 in November
    assert Clock("ms", havana).to_ms("2025-03-09") == int(dt.datetime(2025, 3, 9, 5, tzinfo=UTC).timestamp() * 1_000)
    assert Clock("ms", havana).to_ms("2025-11-02") == int(dt.datetime(2025, 11, 2, 4, tzinfo=UTC).timestamp() * 1_000)


def test_an_unknown_zone_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SettingsError, match=r"did you mean Europe/Berlin\?"):
        zone_of("Europe/Berln")
    for name in ("", "Mars", "+99:00", "\x00", "../UTC"):
        with pytest.raises(SettingsError, match="--time-zone"):
            zone_of(name)


moments = st.datetimes(dt.datetime(1974, 1, 1), dt.datetime(2099, 12, 31)).map(lambda moment: moment.replace(microsecond=0))
STYLES: dict[str, Any] = {
    "iso": lambda m: m.isoformat(),
    "day-first": lambda m: f"{m:%d/%m/%Y %H:%M:%S}",
    "month-first": lambda m: f"{m.month}/{m.day}/{m.year} {m:%I:%M:%S %p}",
    "dots": lambda m: f"{m:%d.%m.%Y} {m.hour}:{m:%M:%S}",
    "words": lambda m: f"{m:%a, %d %b %Y %H:%M:%S}",
    "month name": lambda m: f"{m:%B} {m.day}, {m:%Y %I:%M:%S%p}",
    "year first": lambda m: f"{m:%Y/%m/%d %H:%M:%S}",
    "digits": lambda m: f"{m:%Y%m%d%H%M%S}",
    "s": lambda m: str(int(m.replace(tzinfo=UTC).timestamp())),
    "us": lambda m: int(m.replace(tzinfo=UTC).timestamp()) * 1_000_000,
}


@given(given_moments=st.lists(moments, min_size=1, max_size=20), style=st.sampled_from(sorted(STYLES)))
def test_what_is_detected_is_what_was_written_or_the_file_is_refused(given_moments: list[dt.datetime], style: str) -> None:
    column = TimeColumn("event_ts_ms", "t", TimeOptions(zone=UTC))
    values = [STYLES[style](moment) for moment in given_moments]
    for line, value in enumerate(values):
        column.add(value, line)
    is_unclear = all(moment.day <= 12 for moment in given_moments) and any(moment.day != moment.month for moment in given_moments)
    if style in ("day-first", "month-first", "dots") and is_unclear:
        with pytest.raises(SettingsError, match="--time-format"):
            column.clock()
        return
    clock = column.clock()
    assert [clock.to_ms(value) for value in values] == [int(moment.replace(tzinfo=UTC).timestamp()) * 1_000 for moment in given_moments]


@given(text=st.text(st.sampled_from("0123456789 /.:-TZ+amp,NovSt\n"), max_size=30) | st.text(max_size=20))
def test_any_text_is_a_time_or_a_bad_row(text: str) -> None:
    found = read_time_text(text)
    assert found is None or 0 <= found.year <= 9999
    for clock in (Clock("ms", BERLIN), Clock("iso"), Clock("yyyymmdd", UTC, order="day-first"), Clock("s", UTC, pattern="%d.%m.%Y")):
        with suppress(BadRow):
            assert isinstance(clock.to_ms(text), int)

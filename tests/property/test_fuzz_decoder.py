"""The fuzzer finds no escape, and finds the bugs that these tests plant."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import fuzz_decoder
from benchmarks.fuzz_decoder import RSS_LIMIT_MB, Mutator, fuzz
from schemas import decode_item


def test_twenty_thousand_mutated_records_are_read_or_refused_in_bounded_memory() -> None:
    report = fuzz(20_000, seed=1)
    assert not report.escapes, "\n".join(map(str, report.escapes))
    assert report.escaped == 0 and report.rss_growth_mb < RSS_LIMIT_MB
    assert report.inputs == report.accepted + report.refused == 20_000
    assert report.accepted > 2_000 and report.refused > 2_000  # neither gate is shut


def test_the_same_seed_gives_the_same_inputs() -> None:
    one, same, other = Mutator(3), Mutator(3), Mutator(4)
    records = [one.record(n % 5) for n in range(500)]
    assert records == [same.record(n % 5) for n in range(500)] != [other.record(n % 5) for n in range(500)]


def test_what_escapes_is_counted_shown_by_class_and_input_and_makes_the_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def careless(value: bytes | None, key: bytes | None) -> object:
        if value is not None and b"\\ud800" in value:
            raise KeyError("a bug")
        return decode_item(value, key)

    monkeypatch.setattr(fuzz_decoder, "ONE_BY_ONE", (careless, *fuzz_decoder.ONE_BY_ONE[1:]))
    monkeypatch.setattr(sys, "argv", ["fuzz_decoder", "--inputs", "5000", "--json"])
    assert fuzz_decoder.main() == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["escaped"] > 0
    assert "careless: KeyError" in printed.err and "ud800" in printed.err


@pytest.mark.parametrize("broken", [["decode_events"], ["decode_events", "decode_event"]])
def test_a_decoder_of_batches_that_breaks_is_found_out_too(broken: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object, **__: object) -> object:
        raise RecursionError("a bug")

    for name in broken:
        monkeypatch.setattr(fuzz_decoder, name, breaks)
    report = fuzz(100, seed=0)
    assert report.failed and report.escapes[0].error == "RecursionError: a bug"

"""Feed mutated records of all input topics to the decoders, which must return a record or raise Poison.

Examples:
    python -m benchmarks.fuzz_decoder
    python -m benchmarks.fuzz_decoder --inputs 100000 --seed 3 --json

Each input gets one to three mutations. A mutation takes a valid record and cuts, flips, repeats or splices bytes, or replaces a JSON value
by a hostile value, member or nesting. Events go through `decode_events` in batches, the other topics one by one, every key through
`decode_key`, and a tenth of the refused records into a dead letter. The exit code is 1 if a decoder raised anything but Poison, or if
memory grew.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.figures import benchmark_parser, resident_bytes, run_benchmark
from schemas import limits
from schemas.dead_letters import make_dead_letter
from schemas.decoding import (
    DecodedEvents,
    decode_announcement,
    decode_dead_letter,
    decode_event,
    decode_events,
    decode_item,
    decode_key,
    decode_profile,
    encode,
    key_of,
)
from schemas.errors import Poison
from schemas.events import EVENT_TYPES, Event
from schemas.examples import ANNOUNCEMENT, DEAD_LETTER, EVENT, ITEM, PROFILE
from schemas.fields import Wire

BATCH = 1_000
FUTURE_SKEW_MS = 300_000
RSS_LIMIT_MB = 64.0
WARM_SHARE = 0.1  # memory growth counts from this share of the inputs on, when caches are full
COMPARED_EVERY = 4
"""In every fourth batch the decoded columns are compared with the model's reading of each record."""
DEAD_LETTER_EVERY = 10
SHOWN_ESCAPES = 5
SHOWN_CHARS = 200
VARIANTS = 24  # valid records of each topic to start from

Record = tuple[bytes | None, bytes | None]
"""Key and value."""
Decoder = Callable[[bytes | None, bytes | None], object]
"""From value and key."""
ONE_BY_ONE: tuple[Decoder, ...] = (decode_item, decode_profile, decode_announcement, decode_dead_letter)


@dataclass(frozen=True, slots=True)
class Escape:
    """An exception other than Poison that a decoder raised, or a wrong result."""

    decoder: str
    error: str
    key: bytes | None
    value: bytes | None

    def __str__(self) -> str:
        return f"{self.decoder}: {self.error}; key {_cut(self.key)}, value {_cut(self.value)}"


@dataclass(slots=True)
class Report:
    """Counts over all inputs. The first `SHOWN_ESCAPES` escapes are kept with their record."""

    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    escaped: int = 0
    rss_growth_mb: float = 0.0
    seconds: float = 0.0
    escapes: list[Escape] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return self.escaped > 0 or self.rss_growth_mb >= RSS_LIMIT_MB

    def add_escape(self, decoder: str, error: Exception, record: Record) -> None:
        self.escaped += 1
        if len(self.escapes) < SHOWN_ESCAPES:
            self.escapes.append(Escape(decoder, f"{type(error).__name__}: {str(error)[:SHOWN_CHARS]}", *record))

    def figures(self) -> dict[str, int | float]:
        """Return the figures that `--json` prints."""
        return {
            "inputs": self.inputs,
            "refused": self.refused,
            "accepted": self.accepted,
            "escaped": self.escaped,
            "rss_growth_mb": round(self.rss_growth_mb, 1),
            "inputs_per_s": round(self.inputs / max(self.seconds, 1e-9)),
        }


LIMITS = (
    *(0, 1, 2**31, 2**32, 2**64, 2**128, limits.MAX_POSITION, limits.MAX_OFFSET, limits.MAX_PARTITION, limits.MAX_SAFE_INTEGER),
    *(limits.TIMESTAMP_MIN_MS, limits.TIMESTAMP_MAX_MS, limits.CALENDAR_MIN_MS, limits.CALENDAR_MAX_MS),
    *(int(limits.MAX_VALUE), int(limits.MAX_NUMBER), int(limits.MAX_EMBEDDING_VALUE)),
)
HOSTILE: tuple[bytes | str, ...] = (
    # numbers
    *(str(number) for limit in LIMITS for number in (limit - 1, limit, limit + 1, -limit, float(limit))),
    *(b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"nan", b"1e308", b"1e309", b"-1e999", b"1e-400", b"0.0000000001", b"-0", b"-0.0", b"00"),
    *(b"1.", b".5", b"+1", b"0x10", b"1_000", b"1e", b"9" * 400, b"0." + b"1" * 400, b"9" * 5_000, b"1E+2", b"- 1", b"1 2"),
    # what is no number and no string
    *(b"null", b"true", b"false", b"None", b"True", b"undefined", b"", b" ", b"[]", b"{}", b"[[]]", b'{"":{}}', b"[null]", b"[1,]", b"{,}"),
    b"/**/1",
    # strings: control characters, surrogates, broken UTF-8, byte order marks, escapes
    *(
        b'""',
        b'" "',
        b'"\\u0000"',
        b'"\\u001f"',
        b'"\\u007f"',
        b'"\\u0085"',
        b'"a\nb"',
        b'"\t"',
        b'"\\n"',
        b'"\\/"',
        b'"\\x41"',
        b'"\\u12"',
    ),
    *(b'"\\ud800"', b'"\\udfff"', b'"\\ud83d\\ude00"', b'"\\ude00\\ud83d"', b'"\\ud800\\u0041"', b'"\xed\xa0\x80"', b'"\xe2\x80\xa8"'),
    *(b'"\xff"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b'"\xe2\x82"', b'"\xef\xbb\xbf"', b"\xef\xbb\xbf", b'"\xe2\x80\xae\xd7\x90"'),
    *(b'"\\', b'"', b"'a'"),
    *('"' + "é" * n + '"' for n in (63, 64, 65)),
    *(b'"' + b"x" * n + b'"' for n in (64, 65, 127, 128, 129, 256, 257, 512, 513, 1_025, 8_193)),
    *('"' + "👩‍👩‍👧‍👦" * n + '"' for n in (1, 5, 6)),
    '"' + "e\u0301" * 64 + '"',
    *(f'"{word}"' for word in (*EVENT_TYPES, "LIKE", "like ", "promoted", "rejected", "ials", "../x", "a/b", "file:///x", "e3b0" * 16)),
    # nesting, and too many of something
    *(b"[" * depth + b"]" * depth for depth in (limits.MAX_DEPTH - 2, limits.MAX_DEPTH, limits.MAX_DEPTH + 1, 150, 600)),
    *(b'{"a":' * depth + b"1" + b"}" * depth for depth in (3, limits.MAX_DEPTH, 150)),
    *(b"[" * 300, b"]" * 300, b'{"a":[' * 100),
    b'["' + b'","'.join(b"c%d" % n for n in range(40)) + b'"]',
    b"{" + b",".join(b'"k%d":%d' % (n, n) for n in range(70)) + b"}",
    b"[" + b",".join([b"0.5"] * 1_025) + b"]",
    *(b'{"a":{"b":{"c":1}}}', b'{"a":NaN}', b'{"user_id":"x"}', b'[{"rank":1}]', b'{"text":[1,"x"]}'),
)
HOSTILE_VALUES: list[bytes] = [value if isinstance(value, bytes) else value.encode() for value in HOSTILE]
HUGE: list[bytes] = [
    b'"' + b"x" * limits.EVENT_MAX_BYTES + b'"',
    b"[" * limits.EVENT_MAX_BYTES,
    b'{"a":' * 13_000,
    b'"\\' * 32_000,
    b"NaN" * 21_000,
    b" " * (limits.EVENT_MAX_BYTES - 100),
    b"[" + b"[]," * 21_000 + b"1]",
    b'"' + b"\\u0041" * 10_000 + b'"',
    b"9" * 60_000,
    b"[" + b"1," * 250_000 + b"1]",
]
KEYS: tuple[bytes | None, ...] = (
    *(None, b"", b"\x00", b" ", b"\xff", b"\xed\xa0\x80", b"\xc3", b"u\nv", b"null", b"x" * 128, b"x" * 129, b"x" * 5_000, b"\x7f"),
    *("ü".encode(), "\u0085".encode(), "é".encode() * 64, "é".encode() * 65),
    *(b"recsys.events:3:1208", b"::", b":", b"ials", b"user-42", b"film-1198"),
)
NAMES = sorted({name for example in (EVENT, ITEM, PROFILE, ANNOUNCEMENT, DEAD_LETTER) for name in type(example).model_fields})
MEMBERS = [
    b'"%s":%s,' % (name, value)
    for name in (*(n.encode() for n in NAMES), b"", b"new_field", b"schema_version", b"\\u0075ser_id", b"\\ud800", b"\xff")
    for value in (b"null", b"1", b"2", b"true", b'"x"', b"NaN", b"[]", b'{"a":[{}]}', b"1e400", b'"\\ud800"')
]


@dataclass(frozen=True, slots=True)
class Seed:
    """A valid record, the places (start, end) of every JSON value in it, nested ones too, and where an object's members begin."""

    key: bytes
    value: bytes
    values: list[tuple[int, int]]
    members: list[int]


def seed_of(key: bytes, fields: dict[str, Any]) -> Seed:
    """Encode these fields as a record and note its places."""
    text, values, members = bytearray(), [], []

    def write(tree: Any) -> None:
        start = len(text)
        if isinstance(tree, dict):
            text.extend(b"{")
            members.append(len(text))
            for n, (name, inner) in enumerate(tree.items()):
                text.extend(b"," * (n > 0) + json.dumps(name).encode() + b":")
                write(inner)
            text.extend(b"}")
        elif isinstance(tree, list):
            text.extend(b"[")
            for n, inner in enumerate(tree):
                text.extend(b"," * (n > 0))
                write(inner)
            text.extend(b"]")
        else:
            text.extend(json.dumps(tree, ensure_ascii=len(text) % 2 == 0).encode())
        values.append((start, len(text)))

    write(fields)
    return Seed(key, bytes(text), values, members)


def seeds_of(example: Wire, chance: random.Random) -> list[Seed]:
    """Return valid records of one topic: the example, and variants with some fields left out, unknown or reordered."""
    full: dict[str, Any] = json.loads(encode(example))
    required = {name for name, found in type(example).model_fields.items() if found.is_required()}
    seeds = []
    for n in range(VARIANTS):
        fields = {name: value for name, value in full.items() if n == 0 or name in required or chance.random() < 0.7}
        if "value" in full and "value" not in fields:
            fields["type"] = chance.choice([kind for kind in EVENT_TYPES if kind != "rating"]).value
        if n % 4 == 1:
            fields[f"unknown_{n}"] = chance.choice([None, 1.5, "ü", [1, {"a": []}], {"b": {"c": "d"}}])
        if n % 4 == 2:
            fields = dict(chance.sample(list(fields.items()), len(fields)))
        seeds.append(seed_of(key_of(example), fields))
    return seeds


class Mutator:
    """Generates inputs without end; the same seed gives the same inputs."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.topics = [seeds_of(example, self.chance) for example in (EVENT, ITEM, PROFILE, ANNOUNCEMENT, DEAD_LETTER)]
        self._random = self.chance.random

    def record(self, topic: int) -> Record:
        """Return a mutation of a valid record of this topic (0: events)."""
        draw = self._random
        seeds = self.topics[topic]
        seed = seeds[int(draw() * len(seeds))]
        key: bytes | None = seed.key
        value = self._mutate_json(seed) if draw() < 0.8 else self._mutate_bytes(seed.value)
        again = draw()
        if again < 0.15:
            value = self._mutate_bytes(value)
            if again < 0.05:
                value = self._mutate_bytes(value)
        odd = draw()
        if odd < 0.06:
            key = KEYS[int(draw() * len(KEYS))] if odd < 0.04 else self._mutate_bytes(seed.key)
        return key, (None if odd > 0.99 else value)

    def _mutate_json(self, seed: Seed) -> bytes:
        """Put a hostile value or member where JSON has a value or member."""
        draw, text = self._random, seed.value
        kind = draw()
        start, end = seed.values[int(draw() * len(seed.values))]
        if kind < 0.55:
            hostile = HOSTILE_VALUES if kind > 0.0005 else HUGE
            return text[:start] + hostile[int(draw() * len(hostile))] + text[end:]
        if kind < 0.75:
            at = seed.members[int(draw() * len(seed.members))]
            return text[:at] + MEMBERS[int(draw() * len(MEMBERS))] + text[at:]
        if kind < 0.85:  # another value of the record, or of another record
            other = self._any_seed() if kind < 0.80 else seed
            from_start, from_end = other.values[int(draw() * len(other.values))]
            return text[:start] + other.value[from_start:from_end] + text[end:]
        if kind < 0.92:  # a number or string with something behind it
            return text[:end] + b'0.5eE+-,:]}"\\ \n'[int(draw() * 15) :][:2] + text[end:]
        if kind < 0.96:
            return b" \n\t\r" * int(draw() * 8) + text + b" {}[]\x00,"[int(draw() * 7) :]
        return text

    def _mutate_bytes(self, text: bytes) -> bytes:
        """Flip, cut, repeat, insert or splice bytes."""
        draw, kind = self._random, self._random()
        size = len(text) + 1
        at = int(draw() * size)
        if kind < 0.2:
            return text[:at]
        if kind < 0.5:
            flipped = bytearray(text)
            for _ in range(1 + int(kind * 10) % 3):
                if flipped:
                    flipped[int(draw() * len(flipped))] ^= 1 << int(draw() * 8)
            return bytes(flipped)
        other = int(draw() * size)
        start, end = (at, other) if at < other else (other, at)
        if kind < 0.6:
            return text[:start] + text[end:]
        if kind < 0.7:
            return text[:end] + text[start:]
        if kind < 0.85:
            return text[:at] + self.chance.randbytes(1 + int(draw() * 6)) + text[at:]
        if kind < 0.92:
            return text[:at] + HOSTILE_VALUES[int(draw() * len(HOSTILE_VALUES))] + text[at:]
        rest = self._any_seed().value
        return text[:at] + rest[int(draw() * len(rest)) :]

    def _any_seed(self) -> Seed:
        seeds = self.topics[int(self._random() * len(self.topics))]
        return seeds[int(self._random() * len(seeds))]


def fuzz(n_inputs: int, seed: int) -> Report:
    """Decode `n_inputs` mutated records and report. The same seed gives the same inputs."""
    mutator, report = Mutator(seed), Report()
    draw = mutator.chance.random
    started_s = time.perf_counter()
    warm_mb: float | None = None
    peak_mb = 0.0
    while report.inputs < n_inputs:
        n = min(BATCH, n_inputs - report.inputs)
        events: list[Record] = []
        for _ in range(n):
            kind = draw()
            if kind < 0.6:
                events.append(mutator.record(0 if kind < 0.58 else 1 + int(draw() * 4)))
                continue
            topic = int(draw() * 4)
            record = mutator.record(topic + 1 if kind < 0.98 else int(draw() * 5))
            _one(ONE_BY_ONE[topic], record, report)
        times_ms = [(-1, 0, EVENT.event_ts_ms, limits.MAX_OFFSET)[int(draw() * 4)] for _ in events]
        _batch(events, times_ms, report)
        report.inputs += n
        peak_mb = max(peak_mb, resident_mb())
        if warm_mb is None and report.inputs >= WARM_SHARE * n_inputs:
            warm_mb = peak_mb = resident_mb()
    report.rss_growth_mb = max(0.0, peak_mb - (warm_mb or peak_mb))
    report.seconds = time.perf_counter() - started_s
    return report


def _batch(records: Sequence[Record], times_ms: Sequence[int], report: Report) -> None:
    try:
        decoded = decode_events(records, record_ts_ms=times_ms, future_skew_ms=FUTURE_SKEW_MS)
    except Exception as error:
        escaped_before = report.escaped
        for record, ts_ms in zip(records, times_ms, strict=True):  # find the record
            _one(partial(_event, record_ts_ms=ts_ms), record, report)
        if report.escaped == escaped_before:
            report.add_escape("decode_events", error, (None, None))
        return
    if (report.inputs // BATCH) % COMPARED_EVERY == 0:
        _compare(records, times_ms, decoded, report)
    report.accepted += len(decoded)
    for at, poison in decoded.poisons:
        _refuse(poison, records[at], report)
    for key, _ in records:
        _key(key, report)


def _compare(records: Sequence[Record], times_ms: Sequence[int], decoded: DecodedEvents, report: Report) -> None:
    """Check that the columns equal the model's reading of each record."""
    places = {position: at for at, position in enumerate(decoded.index)}
    trimmed: Counter[str] = Counter()
    for position, (record, ts_ms) in enumerate(zip(records, times_ms, strict=True)):
        key, value = record
        try:
            alone = _event(value, key, record_ts_ms=ts_ms, trimmed=trimmed)
        except Poison:
            if position in places:
                report.add_escape("decode_events", AssertionError("a batch accepts a record that the model refuses"), record)
            continue
        except Exception as error:
            report.add_escape("decode_event", error, record)
            continue
        at = places.get(position)
        read = (alone.event_id, alone.item_id, alone.event_ts_ms, alone.list_id, alone.position, alone.session, alone.context or None)
        if at is None or read != (
            decoded.event_ids[at],
            decoded.item_ids[at],
            decoded.event_ts_ms[at],
            decoded.list_ids[at],
            decoded.positions[at],
            decoded.sessions[at],
            decoded.contexts[at],
        ):
            report.add_escape("decode_events", AssertionError("a batch reads an event differently from the model"), record)
    if trimmed != decoded.trimmed:
        report.add_escape("decode_events", AssertionError("a batch counts trimmed fields differently from the model"), (None, None))


def _event(value: bytes | None, key: bytes | None, *, record_ts_ms: int, trimmed: Counter[str] | None = None) -> Event:
    return decode_event(value, key, record_ts_ms=record_ts_ms, future_skew_ms=FUTURE_SKEW_MS, trimmed=trimmed)


def _one(decode: Decoder, record: Record, report: Report) -> None:
    key, value = record
    try:
        decode(value, key)
    except Poison as poison:
        _refuse(poison, record, report)
    except Exception as error:
        report.add_escape(getattr(decode, "__name__", "decode_event"), error, record)
    else:
        report.accepted += 1
    _key(key, report)


def _key(key: bytes | None, report: Report) -> None:
    try:
        decode_key(key)
    except Poison:
        pass
    except Exception as error:
        report.add_escape("decode_key", error, (key, None))


def _refuse(poison: Poison, record: Record, report: Report) -> None:
    """Count a refusal; build every tenth one's dead letter as the worker would."""
    report.refused += 1
    if report.refused % DEAD_LETTER_EVERY:
        return
    key, value = record
    try:
        letter = make_dead_letter(
            poison,
            source_topic="recsys.events",
            source_partition=0,
            source_offset=report.refused,
            source_timestamp_ms=-1,
            key=key,
            value=value,
            dead_letter_ts_ms=EVENT.event_ts_ms,
        )
        if decode_dead_letter(encode(letter), key_of(letter)) != letter or "\n" in letter.reason:
            raise ValueError("the dead letter does not read back as one line")
    except Exception as error:
        report.add_escape("make_dead_letter", error, record)


def resident_mb() -> float:
    """Return this process's resident memory in MB."""
    return resident_bytes(os.getpid()) / 1e6


def _cut(text: bytes | None) -> str:
    shown = repr(text)
    return shown if len(shown) <= SHOWN_CHARS else f"{shown[:SHOWN_CHARS]}… ({len(text or b'')} bytes)"


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="number of records (default: 1,000,000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations (default: 0)")
    arguments = parser.parse_args()
    report = fuzz(arguments.inputs, arguments.seed)
    for escape in report.escapes:
        print(escape, file=sys.stderr)
    if report.rss_growth_mb >= RSS_LIMIT_MB:
        print(f"memory grew by {report.rss_growth_mb:.0f} MB after the first tenth; {RSS_LIMIT_MB:.0f} are allowed", file=sys.stderr)
    if arguments.json:
        print(json.dumps(report.figures()))
    else:
        table = Table(title=f"fuzz_decoder — seed {arguments.seed}")
        for name in ("figure", "value"):
            table.add_column(name, justify="right" if name == "value" else "left")
        for name, figure in report.figures().items():
            table.add_row(name, f"{figure:,}")
        Console().print(table)
    return int(report.failed)


if __name__ == "__main__":
    run_benchmark(main)

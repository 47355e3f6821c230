"""Measure the memory that a stream worker and a trainer need for the worst batches that a broker with default limits accepts.

Examples:
    python -m benchmarks.bombs --check
    KAFKA_HOME=… python -m benchmarks.bombs --lane kafka --json

Each decompression bomb is one batch, or a few, of at most 1 MB each as sent: codecs that expand a thousandfold, records without end,
headers without end, deep nesting, large keys. The worker must read on after each of them. The output is the peak resident memory of both
processes while they read it, next to the peak before the first bomb.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from benchmarks.figures import benchmark_parser, run_benchmark
from tests.fault.lanes import kafka_home
from tests.kafka_home import KafkaHome
from tests.raw_batches import MEGABYTE, Records, raw_batch, send_raw
from workers.client import EventPublisher
from workers.kafka.offsets import group_lag
from workers.kafka.partitioner import partition_for
from workers.kafka.topics import provision
from workers.local.embedded import Child, EmbeddedStack
from workers.settings import Settings, load_settings

LIMIT_MB = 1_024
"""Limit on the resident memory of a worker or trainer for any input; `docs/reliability.md` states it. Compose gives 2 GiB."""
PACKED_BYTES = 1_000_000
"""A broker's default message.max.bytes is 1,048,588."""
GIGABYTE = 910_000_000
READ_WITHIN_S = 240.0


@dataclass(frozen=True, slots=True)
class Bomb:
    """One compressed batch, sent `batches` times to the topic of a role."""

    name: str
    codec: str
    records: Callable[[], Records]
    role: str = "events"
    batches: int = 1


@dataclass(frozen=True, slots=True)
class Measured:
    bomb: str
    packed_bytes: int
    unpacked_bytes: int
    worker_mb: float
    trainer_mb: float
    seconds: float
    was_read: bool


def bombs() -> list[Bomb]:
    """Return ten batches of events and two of items."""
    large, key = b"A" * 7_000_000, b"bomb"
    event = orjson.dumps({"event_id": "e", "user_id": "bomb", "item_id": "i", "type": "play", "event_ts_ms": 1_763_200_000_000})
    fat = event[:-1] + b',"context":{"a":"' + b"B" * 60_000 + b'"}}'
    item = b'{"item_id":"bomb","text":"' + b"T" * 900_000 + b'"}'
    nested = b'{"a":' * 10_000 + b"1" + b"}" * 10_000
    return [
        Bomb("gzip: 130 values of 7 MB", "gzip", lambda: [(key, large, 0)] * 130),
        Bomb("zstd: 130 values of 7 MB", "zstd", lambda: [(key, large, 0)] * 130),
        Bomb("lz4: 33 values of 7 MB", "lz4", lambda: [(key, large, 0)] * 33),
        Bomb("snappy: 20 values of 1 MB", "snappy", lambda: [(key, large[:MEGABYTE], 0)] * 20, batches=10),
        Bomb("zstd: 20 batches just below the limits", "zstd", lambda: [(key, fat, 0)] * 540, batches=20),
        Bomb("zstd: 1,000,000 empty records", "zstd", lambda: [(None, None, 0)] * 1_000_000),
        Bomb("zstd: nested 10,000 deep", "zstd", lambda: [(key, nested, 0)] * 500),
        Bomb("zstd: 12 million headers", "zstd", lambda: [(key, event, 12_000_000)]),
        Bomb("zstd: 9,000 headers each", "zstd", lambda: [(key, event, 9_000)] * 1_600, batches=5),
        Bomb("zstd: keys of 30 MB", "zstd", lambda: [(b"K" * 30_000_000, event, 0)], batches=20),
        Bomb("zstd: items of 900 kB", "zstd", lambda: [(key, item, 0)] * 33, role="items", batches=20),
        Bomb("gzip: 130 items of 7 MB", "gzip", lambda: [(key, large, 0)] * 130, role="items"),
    ]


def _reset_peak(child: Child) -> None:
    Path(f"/proc/{child.process.pid}/clear_refs").write_text("5")


def _peak_mb(child: Child) -> float:
    status = Path(f"/proc/{child.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024


class Run:
    """One worker and one trainer whose memory is measured for each bomb."""

    def __init__(self, settings: Settings, worker: Child, trainer: Child) -> None:
        self.settings, self.worker, self.trainer = settings, worker, trainer

    async def send(self, bomb: Bomb) -> Measured:
        """Send a bomb and a valid event after it; wait until both are read."""
        raw, n_bytes = await asyncio.to_thread(raw_batch, bomb.codec, bomb.records())
        assert len(raw) <= PACKED_BYTES + 48_000, f"{bomb.name}: {len(raw)} bytes are more than a broker accepts"
        topic: str = getattr(self.settings.topics, bomb.role)
        partition = partition_for(b"bomb", self.settings.topics.partitions)
        for child in (self.worker, self.trainer):
            _reset_peak(child)
        started_s = time.monotonic()
        await send_raw(self.settings, topic, partition, raw, bomb.batches)
        with EventPublisher(self.settings) as publisher:
            await asyncio.to_thread(publisher.publish, user_id="bomb", item_id="i", type="play")
        was_read = await self._is_read(topic)
        await asyncio.sleep(1.0)  # the trainer has no group; it polls twice a second
        seconds = time.monotonic() - started_s
        return Measured(bomb.name, len(raw), n_bytes * bomb.batches, _peak_mb(self.worker), _peak_mb(self.trainer), seconds, was_read)

    async def _is_read(self, topic: str) -> bool:
        stream, events = self.settings.stream.group_id, self.settings.topics.events
        groups = {events: stream} | ({} if topic == events else {topic: f"{stream}-catalogue"})
        deadline = time.monotonic() + READ_WITHIN_S
        while time.monotonic() < deadline and self.worker.running and self.trainer.running:
            lags = [sum((await asyncio.to_thread(group_lag, self.settings, group, name)).values()) for name, group in groups.items()]
            if not any(lags):
                return True
            await asyncio.sleep(0.2)
        return False


def _good() -> bytes:
    fields = {"event_id": uuid.uuid4().hex, "user_id": "bomb", "item_id": "i", "type": "play"}
    return orjson.dumps(fields | {"event_ts_ms": int(time.time() * 1000)})


async def measure(settings: Settings, worker: Child, trainer: Child, say: Callable[[Measured], None]) -> list[Measured]:
    """Return the memory peaks of one plain event, then of every bomb."""
    run = Run(settings, worker, trainer)
    found = []
    for bomb in (Bomb("(one event)", "gzip", lambda: [(b"bomb", _good(), 0)]), *bombs()):
        found.append(await run.send(bomb))
        say(found[-1])
    return found


def run_all(lane: str, say: Callable[[Measured], None]) -> list[Measured]:
    """Start a lane's servers and both processes, and send every bomb."""
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        stack = running.enter_context(EmbeddedStack(folder / "stack"))
        overrides = stack.settings_overrides()
        if lane == "kafka":
            home = kafka_home()
            if home is None:
                raise SystemExit("benchmarks.bombs: set KAFKA_HOME to an unpacked Apache Kafka (Java 17)")
            kafka = running.enter_context(KafkaHome(home, folder / "kafka"))
            overrides["kafka"] |= {"bootstrap_servers": kafka.bootstrap_servers, "idempotence": True}
        settings = load_settings(**overrides)
        provision(settings)
        environment = {"RECSYS_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers}
        worker, trainer = (stack.start_worker(kind, environment) for kind in ("stream", "trainer"))
        return asyncio.run(measure(settings, worker, trainer, say))


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--lane", choices=("embedded", "kafka"), default="embedded", help="broker; kafka needs KAFKA_HOME")
    parser.add_argument("--check", action="store_true", help=f"exit with 1 if a process used more than {LIMIT_MB:,} MB or stopped reading")
    options = parser.parse_args()

    def say(one: Measured) -> None:
        if not options.json:
            sizes = f"{one.packed_bytes / MEGABYTE:6.2f} MB -> {one.unpacked_bytes / MEGABYTE:8.1f} MB"
            peaks = f"worker {one.worker_mb:5.0f} MB, trainer {one.trainer_mb:5.0f} MB"
            print(f"{one.bomb:40} {sizes}  {peaks}  {one.seconds:5.1f} s{'' if one.was_read else '  NOT READ'}", flush=True)

    found = run_all(options.lane, say)
    worst = max(max(one.worker_mb, one.trainer_mb) for one in found)
    is_bounded = worst <= LIMIT_MB and all(one.was_read for one in found)
    if options.json:
        print(json.dumps({"limit_mb": LIMIT_MB, "worst_mb": round(worst, 1), "bombs": [asdict(one) for one in found]}))
    else:
        base = max(found[0].worker_mb, found[0].trainer_mb)
        print(f"peak {worst:.0f} MB, {base:.0f} MB before the first bomb; the limit is {LIMIT_MB} MB{'' if is_bounded else ': exceeded'}")
    return 1 if options.check and not is_bounded else 0


if __name__ == "__main__":
    run_benchmark(main)

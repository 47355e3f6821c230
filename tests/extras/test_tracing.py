"""A trace leads from an event to its list, with the context of a producer's header, and costs nothing while it is off."""

from __future__ import annotations

import sys
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.builders import TOPIC_ID, opened_pipeline, play, records_of, small_settings
from tests.memory_store import MemoryStore
from workers.errors import SettingsError
from workers.kafka.batch_publisher import ListPublisher
from workers.kafka.tracing import Tracing, current_headers, open_tracing, sampled
from workers.watch_settings import TracingSettings

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ON = TracingSettings(exporter="console", events_per_batch=3)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    made = open_tracing(ON, "test", provider)
    assert made is not None
    return made


def with_header(record: Any, value: str = PARENT) -> Any:
    return record._replace(headers=[("other", b"x"), ("traceparent", value.encode())])


class Batch:
    """A producer's batch that takes everything."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []

    def append(self, **fields: Any) -> object:
        self.taken.append(fields)
        return object()

    def record_count(self) -> int:
        return len(self.taken)


class Producer:
    def __init__(self) -> None:
        self.batch = Batch()

    def create_batch(self) -> Batch:
        return self.batch

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any:
        import asyncio

        future = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


async def test_a_trace_leads_from_the_event_to_the_header_of_its_list(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    pipeline = await opened_pipeline(MemoryStore(), small_settings())
    pipeline.tracing = tracing
    await pipeline.assign([0], TOPIC_ID)
    traced, plain = records_of([play("u1", "a", 1), play("u2", "b", 2)])
    outcome = await pipeline.process({0: [with_header(traced), plain]})
    assert outcome.trace is not None
    producer = Producer()
    headers = outcome.trace.publishing(key for records in outcome.lists.values() for key, _ in records)
    await ListPublisher(producer, "lists").publish(outcome.lists, headers)  # type: ignore[arg-type]
    outcome.trace.ended()
    made = {span.name: span for span in spans.get_finished_spans()}
    assert {"event", "decode", "read", "lists", "publish"} <= set(made)
    assert {f"{span.context.trace_id:032x}" for span in made.values()} == {PARENT.split("-")[1]}
    event = made["event"]
    assert f"{event.parent.span_id:016x}" == PARENT.split("-")[2] and event.attributes["messaging.kafka.offset"] == 0
    assert all(span.parent.span_id == event.context.span_id for name, span in made.items() if name != "event")
    assert all(span.end_time >= span.start_time >= event.start_time for span in made.values())
    by_user = {fields["key"]: fields.get("headers") for fields in producer.batch.taken}
    (name, value), *_ = by_user[b"u1"]
    assert name == "traceparent" and value.decode().split("-")[2] == f"{made['publish'].context.span_id:016x}"
    assert not by_user[b"u2"]
    assert not [value for span in made.values() for value in (span.attributes or {}).values() if value in ("u1", "a")], "no ids"


async def test_events_whose_list_is_deferred_say_so_and_a_batch_has_few_spans(tracing: Tracing, spans: InMemorySpanExporter) -> None:
    pipeline = await opened_pipeline(MemoryStore(), small_settings())
    pipeline.tracing = tracing
    await pipeline.assign([0], TOPIC_ID)
    records = [with_header(record) for record in records_of([play(f"u{n}", "a", n) for n in range(9)])]
    outcome = await pipeline.process({0: records}, defer_lists=True)
    assert outcome.trace is not None and outcome.trace.publishing([]) == {}
    outcome.trace.ended()
    events = [span for span in spans.get_finished_spans() if span.name == "event"]
    assert len(events) == ON.events_per_batch and {span.attributes["list.state"] for span in events} == {"none or deferred"}


@pytest.mark.parametrize("value", ["", "x", PARENT[:-1] + "0", PARENT + "0"])
def test_what_is_not_sampled_or_no_context_makes_no_span(tracing: Tracing, value: str) -> None:
    (record,) = records_of([play("u1", "a", 1)])
    assert sampled([("traceparent", value.encode())]) is None
    assert tracing.of_batch({0: [record, with_header(record, value)]}, 0.0) is None


def test_hostile_headers_are_no_context(tracing: Tracing) -> None:
    (record,) = records_of([play("u1", "a", 1)])
    for value in (b"\xff" * 54 + b"1", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", None):
        trace_of = tracing.of_batch({0: [record._replace(headers=[("traceparent", value)])]}, 0.0)
        if trace_of is not None:
            trace_of.ended()


def test_a_producers_own_span_goes_into_the_headers(tracing: Tracing) -> None:
    assert current_headers() == []
    span = tracing.tracer.start_span("click")
    with trace.use_span(span):
        (name, value), *_ = current_headers()
    assert name == "traceparent" and f"{span.get_span_context().span_id:016x}" in value.decode()


def test_off_is_nothing_and_on_without_the_extra_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_tracing(TracingSettings(), "stream") is None
    monkeypatch.setitem(sys.modules, "opentelemetry.trace.propagation.tracecontext", None)
    with pytest.raises(SettingsError, match=r"recsys-stream\[otel\]"):
        open_tracing(ON, "stream", object())

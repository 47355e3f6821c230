"""OpenTelemetry traces from an event to the list that answers it; off by default, and then nothing of it is imported.

A producer puts the W3C header `traceparent` on its Kafka record. Of each sampled one, a stream worker makes the span `event` with a
child for each stage of its batch, and the list's record carries the context on. Stages are the batch's: its events share them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from workers.errors import SettingsError
from workers.kafka.records import Record
from workers.watch_settings import TracingSettings

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
_LENGTH = 55
"""Characters of a traceparent of version 00; its last hexadecimal digit is odd where the trace is sampled."""
_SAMPLED = frozenset(b"13579bdf")
Headers = Sequence[tuple[str, bytes]]


def open_tracing(settings: TracingSettings, service: str, provider: Any = None) -> Tracing | None:
    """Return what makes spans; None where traces are off. Spans go to `provider`, by default to a new one with the settings' exporter.

    Raises SettingsError where the extra `otel` is not installed.
    """
    if settings.exporter == "off":
        return None
    try:
        return Tracing(settings, _provider(settings, service) if provider is None else provider)
    except ImportError:
        raise SettingsError(
            "setting tracing.exporter: OpenTelemetry is not installed: pip install 'recsys-stream[otel]', or set it to off"
        ) from None


def _provider(settings: TracingSettings, service: str) -> Any:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    exporter: Any
    if settings.exporter == "console":
        exporter = ConsoleSpanExporter()
    else:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        exporter = OTLPSpanExporter() if settings.endpoint is None else OTLPSpanExporter(endpoint=settings.endpoint)
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


def sampled(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str] | None:
    """Return the trace context of a record's headers; None without one, or where its trace is not sampled."""
    found = {name: value for name, value in headers if value is not None and name in (TRACEPARENT, TRACESTATE)}
    parent = found.get(TRACEPARENT, b"")
    if len(parent) != _LENGTH or parent[-1] not in _SAMPLED:
        return None
    return {name: value.decode("ascii", "replace") for name, value in found.items()}


def current_headers() -> list[tuple[str, bytes]]:
    """Return the headers that carry the calling program's own trace context to a Kafka record; none without OpenTelemetry or a span."""
    try:
        from opentelemetry.propagate import inject
    except ImportError:
        return []
    carrier: dict[str, str] = {}
    inject(carrier)
    return [(name, value.encode()) for name, value in carrier.items() if name in (TRACEPARENT, TRACESTATE)]


class Tracing:
    """Makes spans of the events of micro-batches."""

    def __init__(self, settings: TracingSettings, provider: Any) -> None:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self.propagator = TraceContextTextMapPropagator()
        self.tracer = provider.get_tracer("recsys-stream")
        self.provider, self._at_most = provider, settings.events_per_batch

    def of_batch(self, batch: Mapping[int, Sequence[Record]], decode_s: float) -> BatchTrace | None:
        """Begin the spans of a batch's sampled events, which took `decode_s` to decode; None where there are none."""
        traced = [
            (record, context)
            for records in batch.values()
            for record in records
            if record.headers and (context := sampled(record.headers)) is not None
        ]
        return BatchTrace(self, traced[: self._at_most], decode_s) if traced else None


class BatchTrace:
    """The spans of one batch's traced events, from its first stage to the broker's acknowledgement of their lists."""

    def __init__(self, tracing: Tracing, traced: Sequence[tuple[Record, dict[str, str]]], decode_s: float) -> None:
        from opentelemetry.trace import SpanKind, set_span_in_context

        self._tracer, self._propagator = tracing.tracer, tracing.propagator
        self._kinds, self._in_context = SpanKind, set_span_in_context
        self._begun_ns = time.time_ns() - int(decode_s * 1e9)
        self._spans = [
            (
                record.key or b"",
                self._tracer.start_span(
                    "event",
                    context=self._propagator.extract(context),
                    kind=SpanKind.CONSUMER,
                    start_time=self._begun_ns,
                    attributes={
                        "messaging.system": "kafka",
                        "messaging.destination.name": record.topic,
                        "messaging.destination.partition.id": str(record.partition),
                        "messaging.kafka.offset": record.source_offset,
                    },
                ),
            )
            for record, context in traced
        ]
        self._sending: list[Any] = []

    def staged(self, seconds: Mapping[str, float], n_records: int) -> None:
        """Note how long each stage of the batch took; they ran one after another."""
        for _, span in self._spans:
            span.set_attribute("messaging.batch.message_count", n_records)
            at_ns = self._begun_ns
            for stage, taken_s in seconds.items():
                child = self._tracer.start_span(f"{stage}", context=self._in_context(span), start_time=at_ns)
                at_ns += int(taken_s * 1e9)
                child.end(at_ns)

    def publishing(self, listed: Iterable[bytes]) -> dict[bytes, Headers]:
        """Begin to publish the lists of the users with these keys; return the headers of the records of traced users."""
        wanted = {key for key, _ in self._spans} & set(listed)
        headers: dict[bytes, Headers] = {}
        for key, span in self._spans:
            if key not in wanted:
                span.set_attribute("list.state", "none or deferred")
                continue
            sending = self._tracer.start_span("publish", context=self._in_context(span), kind=self._kinds.PRODUCER)
            self._sending.append(sending)
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier, self._in_context(sending))
            headers[key] = [(name, value.encode()) for name, value in carrier.items()]
        return headers

    def ended(self) -> None:
        """End all spans: the lists are acknowledged."""
        for span in (*self._sending, *(span for _, span in self._spans)):
            span.end()

"""Settings of what people watch workers by: health, metrics, alarms, logs and traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from workers.section import Positive, Section


class MetricsSettings(Section):
    port: Annotated[int, Field(ge=0, le=65_535)] = 0
    """Port on which a worker answers GET /live, /ready and /metrics (Prometheus); 0 opens no port."""
    host: str = "127.0.0.1"
    """Address that the port is bound to."""
    live_users: Annotated[int, Field(ge=0, le=1_000_000)] = 20_000
    """How many users' newest lists a stream worker remembers to count how often users choose what was on them
    (`recsys_live_hits_total`): those listed last, 44 bytes a user; 0 counts nothing."""


class AlarmSettings(Section):
    """Levels at which a worker sets the gauge recsys_alarm and logs the alarm."""

    lag_records: Positive = 100_000
    """Records that wait to be applied."""
    dead_letter_share: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of refused records within ten seconds."""


class HealthSettings(Section):
    heartbeat_file: Path | None = None
    """File that a worker touches after each round, for `python -m workers.health`; none if not set."""
    max_age_s: Annotated[float, Field(gt=0)] = 30.0
    """A worker whose last round is older is not healthy."""
    max_lag_records: Annotated[int, Field(ge=0)] = 0
    """`/ready` says no while more events than this wait for a worker; 0: a stream worker is ready while it does not defer lists
    (`stream.catch_up_events`), a trainer whatever waits."""


class LogSettings(Section):
    format: Literal["text", "json"] = "text"
    """Lines of a worker's log: `text` for people, `json` for log stores, one object a line. `--log-format` overrides it."""
    hash_key: SecretStr | None = None
    """Key of the hashes that stand for ids in JSON logs. With the same key on all workers a person's lines have the same hash everywhere;
    without one each process draws its own, so that nobody can try ids."""


class TracingSettings(Section):
    """OpenTelemetry traces from an event to its list, of records with a sampled W3C `traceparent` header. Needs the extra `otel`."""

    exporter: Literal["off", "otlp", "console"] = "off"
    """Where spans go: nowhere, to an OTLP collector over HTTP, or to standard output."""
    endpoint: str | None = None
    """URL of the collector's traces, such as http://127.0.0.1:4318/v1/traces; if not set, the exporter's own variables count
    (`OTEL_EXPORTER_OTLP_ENDPOINT`)."""
    events_per_batch: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Sampled events of one batch that get spans, at most."""

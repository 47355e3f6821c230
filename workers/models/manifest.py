"""The manifest of a stored model: everything about one version but its numbers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas import limits
from schemas.fields import Count, Name, TimestampMs
from workers.errors import Fatal

MAX_TENSORS = 1_024
MAX_ITEMS = 10_000_000
MAX_OPTIONS = 64
MAX_DECISION_CHARS = 4_096


class StoreError(Fatal):
    """A stored model is missing, damaged or not what its manifest says; the message says which part."""


class ChampionMoved(StoreError):
    """Another version serves by now than the one that a decision was made against."""


class Record(BaseModel):
    """A part of what the model store writes; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}-[0-9]{6,12}$")]
Line = Annotated[str, Field(max_length=MAX_DECISION_CHARS, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""Text for people: no control characters, which a terminal would obey."""
Metrics = Annotated[dict[Name, float], Field(max_length=limits.MAX_METRICS)]
Seconds = Annotated[float, Field(ge=0, le=limits.MAX_NUMBER)]


class TensorShape(Record):
    """One tensor of the file."""

    shape: Annotated[tuple[Annotated[int, Field(ge=0, le=limits.MAX_SAFE_INTEGER)], ...], Field(max_length=8)]
    dtype: Literal["float16", "float32", "float64", "int32", "int64"]


class StoredFile(Record):
    """One file beside the manifest."""

    sha256: Sha256
    n_bytes: Annotated[int, Field(ge=0)]


class TrainedOn(Record):
    """Which events a model has seen, its short last pass (`refit`) included."""

    n_events: Count
    first_event_ts_ms: TimestampMs
    last_event_ts_ms: TimestampMs
    next_offsets: dict[Annotated[int, Field(ge=0, le=limits.MAX_PARTITION)], Annotated[int, Field(ge=0, le=limits.MAX_OFFSET)]]
    """Partition ▸ first offset that was not read."""


class Refit(Record):
    """The short pass over all events that followed the judgement; the metrics are those of the model before it."""

    split_ts_ms: TimestampMs
    """Time of the oldest event that judged the model. A slice taken by arrival may hold older events than the training."""
    metric: Name
    judged: float
    after: float
    """The metric after the pass, on events the pass has seen: it only shows that the pass broke nothing."""


class SearchOutcome(Record):
    """Options that a search found, and what it was. They are the kind's defaults from this version on, until another search."""

    options: Annotated[dict[Name, int | float | str | bool | None], Field(max_length=MAX_OPTIONS)]
    metric: Name
    start: float | None
    """The metric of what the search started from, on validation events cut from the training; None where it could not be judged in time."""
    found: float | None
    """The same of these options."""
    n_trials: Count
    n_events: Count
    """Events of the training that it searched on."""
    seconds: Seconds
    seed: int
    at_ts_ms: TimestampMs


class Gain(Record):
    """Holds what a kind of model adds to a metric of the list: the mean over targets, and the ends of its interval of 95 %."""

    mean: float
    low: float
    high: float


class Manifest(Record):
    """Everything about one stored version but its numbers."""

    layout: Literal[1] = 1
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
    version: Version
    parent: Version | None
    """The version it was warm-started from."""
    config: dict[str, Any]
    tensors: Annotated[dict[str, TensorShape], Field(max_length=MAX_TENSORS)]
    n_items: Annotated[int, Field(ge=0, le=MAX_ITEMS)]
    """0 for a recipe or a ranker, which know no items."""
    files: dict[Literal["model.safetensors", "items.json"], StoredFile]
    metrics: Annotated[dict[Name, Metrics], Field(max_length=limits.MAX_METRICS)]
    """By who was judged: `challenger` (this version), `champion`, `popularity`, `recent_popularity`; all on the same slice."""
    decision: Line = ""
    """The gate's decision, in one line."""
    trained_on: TrainedOn
    trained_ts_ms: TimestampMs
    train_s: Seconds
    refit: Refit | None = None
    seed: int | None = None
    """Of training, search and gate (`trainer.seed`); None where nothing is drawn."""
    search: SearchOutcome | None = None
    """The search whose options this version has: of its own round, or of an earlier one."""
    gains: Annotated[dict[Name, Gain], Field(max_length=limits.MAX_METRICS)] = {}
    """Of a recipe: kind of model ▸ what it adds to NDCG@10 of the list, with the other weights fitted without it."""
    code_version: Annotated[Line, Field(max_length=64)]


def printable_line(text: str) -> str:
    """Return a text for people as one printable line."""
    return "".join(c if c.isprintable() else " " for c in text)[:MAX_DECISION_CHARS]


def first_problem(error: ValidationError) -> str:
    """Return where a record is wrong, and why; nothing of its content."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) if isinstance(part, int) else printable_line(part)[:40] for part in first["loc"])
    return f"{where or 'the whole'}: {printable_line(first['msg'])[:200]}"

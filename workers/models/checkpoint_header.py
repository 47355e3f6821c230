"""Headers of checkpoints: which training was stopped, on which part of the log. Reading them loads no torch."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from workers.errors import WorkerError
from workers.models.store import ModelStore

MAX_HEADER_BYTES = 1024**2
MAX_AGE_S = 86_400.0
"""An older one is of a log that has long gone on."""


class Header(BaseModel):
    """The content of checkpoint.json. `job` and `next_offsets` say with which settings, and on which part of the log, a round trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal[1] = 1
    training: Annotated[str, Field(max_length=128)]
    job: Annotated[str, Field(max_length=128)]
    next_offsets: dict[int, int]
    file: Annotated[str, Field(pattern=r"^[0-9]{1,15}-[0-9]{1,9}\.safetensors$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    values: dict[str, Any]
    at_ts_ms: int

    @property
    def age_s(self) -> float:
        return max(0.0, time.time() - self.at_ts_ms / 1_000)


def header_of(content: bytes) -> Header:
    """Return a header. Raises ValueError, of which ValidationError is one."""
    return Header.model_validate(json.loads(content))  # numbers of 128 bits: the states of random generators


def unfinished(store: ModelStore, kinds: Iterable[str]) -> list[Header]:
    """Return the checkpoints of these kinds that are less than a day old, newest first; those that cannot be read are left out."""
    found = []
    for kind in kinds:
        with suppress(FileNotFoundError, ValueError, WorkerError, OSError):
            header = header_of(store.storage.read(f"{kind}/checkpoint/checkpoint.json", MAX_HEADER_BYTES))
            if header.age_s <= MAX_AGE_S:
                found.append(header)
    return sorted(found, key=lambda header: -header.at_ts_ms)

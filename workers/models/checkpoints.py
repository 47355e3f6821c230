"""Checkpoints of trainings that are not finished, beside the versions of their kind in the model store.

    <kind>/checkpoint/<time>-<number>.safetensors   tensors
    <kind>/checkpoint/checkpoint.json               which training that is, its numbers, and the hash of the tensors; written last

There is one checkpoint of a kind. It goes when a version of the kind is settled, or when the training fails, or after a day.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from recsys.models.checkpoint import Checkpoint
from workers.errors import Transient, WorkerError, one_line
from workers.models.checkpoint_header import MAX_AGE_S, MAX_HEADER_BYTES, Header, header_of
from workers.models.manifest import first_problem
from workers.models.store import ModelStore
from workers.storage import NotOurFile

MAX_BYTES = 8 * 1024**3
"""Tensors of a training: its weights, two moments of each, their average and the best so far."""
SHARE_OF_TIME = 0.05
"""Writing checkpoints takes at most so much of a training: the more one takes, the rarer they are."""


@dataclass(frozen=True, slots=True)
class RoundKey:
    """Which round a checkpoint is of: its settings as a hash, and where the log ended for it."""

    job: str
    next_offsets: Mapping[int, int]


class StoredCheckpoints:
    """The checkpoints of one kind's training (`recsys.models.checkpoint.Checkpoints`).

    None of its failures ends a training: one that cannot be written is left out, one that cannot be read is none.
    """

    def __init__(self, store: ModelStore, kind: str, key: RoundKey, every_s: float, say: Callable[[str], None]) -> None:
        self._storage, self._kind, self._key, self._every_s, self._say = store.storage, kind, key, every_s, say
        self._saved_s, self._took_s, self._n = time.monotonic(), 0.0, 0

    def due(self) -> bool:
        """Return whether the last one is old enough, and writing it was quick enough."""
        return time.monotonic() - self._saved_s >= max(self._every_s, self._took_s / SHARE_OF_TIME)

    def save(self, checkpoint: Checkpoint) -> None:
        """Write tensors, then the header that names them, then remove the tensors before."""
        started_s = time.monotonic()
        content = save({name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()})
        if len(content) > MAX_BYTES:
            self._say(f"WARNING {self._kind}: no checkpoint, it would have {len(content):,} bytes and may have {MAX_BYTES:,}")
            self._saved_s = float("inf")
            return
        now_ms, folder, self._n = int(time.time() * 1000), f"{self._kind}/checkpoint", self._n + 1
        file = f"{now_ms}-{self._n}.safetensors"
        try:
            sha256 = self._storage.write(f"{folder}/{file}", content)
            header = Header(
                training=checkpoint.training,
                job=self._key.job,
                next_offsets=dict(self._key.next_offsets),
                file=file,
                sha256=sha256,
                values=dict(checkpoint.values),
                at_ts_ms=now_ms,
            )
            self._storage.write(f"{folder}/checkpoint.json", json.dumps(header.model_dump()).encode())
            for name in self._storage.names(folder):
                if name.endswith(".safetensors") and name != file:
                    self._storage.remove(f"{folder}/{name}")
        except (WorkerError, OSError) as error:
            self._say(f"WARNING {self._kind}: no checkpoint: {one_line(error)}")
        self._saved_s, self._took_s = time.monotonic(), time.monotonic() - started_s

    def newest(self) -> Checkpoint | None:
        """Return the stored one if it is whole and less than a day old."""
        try:
            header = header_of(self._storage.read(f"{self._kind}/checkpoint/checkpoint.json", MAX_HEADER_BYTES))
            content = self._storage.read(f"{self._kind}/checkpoint/{header.file}", MAX_BYTES)
            if hashlib.sha256(content).hexdigest() != header.sha256:
                raise ValueError("its tensors are damaged")
            tensors = load(content)
        except FileNotFoundError:
            return None
        except (ValueError, NotOurFile, SafetensorError, Transient) as error:
            self.refuse(f"it cannot be read: {_reason(error)}")
            return None
        if header.age_s > MAX_AGE_S:
            self.refuse("it is older than a day")
            return None
        self._say(f"{self._kind}: there is a checkpoint of {header.age_s:,.0f} s ago")
        return Checkpoint(header.training, tensors, header.values)

    def refuse(self, reason: str) -> None:
        """Remove the stored one and say why."""
        self._say(f"{self._kind}: training starts over, the checkpoint is not used: {reason}")
        self.remove()

    def remove(self) -> None:
        """Remove the stored one: the training has failed."""
        with suppress(WorkerError, OSError):
            self._storage.remove(f"{self._kind}/checkpoint")


def _reason(error: Exception) -> str:
    return first_problem(error) if isinstance(error, ValidationError) else one_line(error)

"""Vectors of items' texts by a language model, as the trainer stores them and workers give them to the catalogue.

Shapes: I items, E dimensions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recsys.catalogue.item_content import ItemContent
from recsys.catalogue.supplied import SUPPLIED
from recsys.errors import ModelError, ShapeError

F16 = NDArray[np.float16]
F32 = NDArray[np.float32]
I64 = NDArray[np.int64]

MAX_WIDTH = 4_096
AT_ONCE = 1_000
"""Vectors that a catalogue is given at once: 0.05 s in a large one."""


@dataclass(frozen=True, slots=True, eq=False)
class ItemVectors:
    """Unit vectors (I, E) of the items `item_ids`, as float16: cosines are exact to within 0.001. `digests` (I, 2) stand for the text that
    each was made of, `encoder` for the language model. Raises: ShapeError, ModelError."""

    kind: ClassVar[str] = "text"

    item_ids: list[str]
    vectors: F16
    digests: I64
    encoder: str

    def __post_init__(self) -> None:
        n_items = len(self.item_ids)
        if self.vectors.ndim != 2 or len(self.vectors) != n_items or not 1 <= self.vectors.shape[1] <= MAX_WIDTH:
            raise ShapeError(f"vectors of texts have shape {self.vectors.shape}, expected ({n_items}, 1 to {MAX_WIDTH})")
        if self.digests.shape != (n_items, 2):
            raise ShapeError(f"digests of texts have shape {self.digests.shape}, expected ({n_items}, 2)")
        if self.vectors.dtype != np.float16 or self.digests.dtype != np.int64:
            raise ModelError(f"vectors of texts are float16 with int64 digests, got {self.vectors.dtype} and {self.digests.dtype}")
        if len(set(self.item_ids)) != n_items:
            raise ModelError("two vectors of texts have one item id")
        if not np.isfinite(self.vectors).all():
            raise ModelError("vectors of texts hold numbers that are not finite")

    @property
    def width(self) -> int:
        """Return E."""
        return int(self.vectors.shape[1])

    @property
    def config(self) -> dict[str, Any]:
        """Return what vectors depend on besides their texts."""
        return {"encoder": self.encoder}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the numbers by name."""
        return {"vectors": self.vectors, "digests": self.digests}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> ItemVectors:
        """Rebuild stored vectors. Raises: ShapeError, ModelError."""
        if missing := sorted({"vectors", "digests"} - tensors.keys()):
            raise ShapeError(f"vectors of texts lack the tensor {missing[0]}")
        return cls(item_ids, tensors["vectors"], tensors["digests"], str(config.get("encoder", ""))[:64])

    def changes(
        self, item_numbers: Mapping[str, int], before: ItemVectors | None = None, n_at_once: int = AT_ONCE
    ) -> Iterator[tuple[I64, F32]]:
        """Yield what items have to be given after the vectors `before`, some at a time: numbers (n,) and vectors (n, E), zeros for items
        that have none any more. Items without a number are left out."""
        now = set(self.item_ids)
        if before is not None and before.width == self.width:
            gone = [item_numbers[one] for one in before.item_ids if one not in now and one in item_numbers]
            for start in range(0, len(gone), n_at_once):
                numbers = np.array(gone[start : start + n_at_once], np.int64)
                yield numbers, np.zeros((len(numbers), self.width), np.float32)
        places = self.changed_since(before)
        for start in range(0, len(places), n_at_once):
            part = places[start : start + n_at_once]
            numbers = np.array([item_numbers.get(self.item_ids[at], -1) for at in part.tolist()], np.int64)
            yield numbers[numbers >= 0], self.vectors[part[numbers >= 0]].astype(np.float32)

    def changed_since(self, before: ItemVectors | None) -> I64:
        """Return the places of the items whose vectors are not those `before`, ascending."""
        if before is None or before.encoder != self.encoder or before.width != self.width:
            return np.arange(len(self.item_ids))
        place = {item_id: at for at, item_id in enumerate(before.item_ids)}
        there = np.fromiter((place.get(item_id, -1) for item_id in self.item_ids), np.int64, len(self.item_ids))
        same = there >= 0
        same[same] = (before.digests[there[same]] == self.digests[same]).all(axis=1)
        return np.flatnonzero(~same)


def text_digests(texts: Sequence[str], encoder: str) -> I64:
    """Return 128-bit digests of texts under a language model, (n, 2)."""
    key = encoder.encode()[:64]
    joined = b"".join(hashlib.blake2b(text.encode(), digest_size=16, key=key).digest() for text in texts)
    return np.frombuffer(joined, "<i8").reshape(-1, 2).astype(np.int64)


def with_texts(contents: Mapping[int, ItemContent], item_ids: Sequence[str], texts: ItemVectors) -> dict[int, ItemContent]:
    """Return the contents, by position among `item_ids`, with the vectors of their texts, as `Catalogue.supply` gives them to items."""
    place = {item_id: at for at, item_id in enumerate(texts.item_ids)}
    found = dict(contents)
    for number, content in contents.items():
        if (at := place.get(item_ids[number])) is not None:
            found[number] = replace(content, embeddings={**content.embeddings, SUPPLIED: texts.vectors[at].astype(np.float32)})
    return found

"""The interface of every model. A new kind of model needs no new worker code.

A model is trained on the whole log. It serves through a function from histories to user vectors and a matrix of item vectors; the score of
an item is their inner product.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ShapeError
from recsys.models.item_values import ItemValues
from recsys.state.profiles import ProfileColumns

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]
U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Histories:
    """The newest interactions of U users, oldest first.

    Shapes: every array is (U, L). Rows are right-aligned: column L−1 holds the newest interaction, unused columns on the left hold item −1.
    `items` are positions on the model's item axis (−1: padding, or an item unknown to the model), `weights` unitless preferences (positive
    or negative), `ages_s` seconds before the user's newest interaction (≥ 0). `gaps_s` (U,) are the seconds from that to the moment of the
    list (≥ 0); None: the list is made at once.
    `types` are codes of event types from 1 to 63, 0 where there is none; None: nothing is known of them.
    Raises: ShapeError if the arrays are not of one shape.
    """

    items: I32
    weights: F32
    ages_s: F32
    gaps_s: F32 | None = None
    types: U8 | None = None

    def __post_init__(self) -> None:
        if not (self.items.ndim == 2 and self.items.shape == self.weights.shape == self.ages_s.shape):
            raise ShapeError(f"histories need three (U, L) arrays, got {self.items.shape}, {self.weights.shape}, {self.ages_s.shape}")
        if self.gaps_s is not None and self.gaps_s.shape != self.items.shape[:1]:
            raise ShapeError(f"histories of {len(self.items)} users need a gap for each, got {self.gaps_s.shape}")
        if self.types is not None and self.types.shape != self.items.shape:
            raise ShapeError(f"histories of shape {self.items.shape} need a type for each entry, got {self.types.shape}")

    def __len__(self) -> int:
        return int(self.items.shape[0])


@runtime_checkable
class Model(Protocol):
    """A trained model, whose scores are `encode(histories) @ item_vectors.T`, or the largest of these where it makes several vectors of a
    history.

    `item_vectors` is (I, D) float32; row i belongs to `item_ids[i]`. `history_length` is the number of newest interactions that `encode`
    reads. `link` interprets the inner products: `identity` for preferences, `softmax` for logits that a softmax over the items turns into
    probabilities. `from_tensors` inverts `tensors`; the tensors are stored as safetensors, `config` as JSON in the manifest.
    """

    kind: ClassVar[str]
    link: ClassVar[Literal["identity", "softmax"]]
    item_ids: list[str]
    item_vectors: F32
    history_length: int

    def encode(self, histories: Histories) -> F32:
        """Return user vectors (U, D) float32, or several of each user, (U, V, D), of which zero ones count as none
        (`recsys.models.user_vectors`). An empty history gives zero vectors. The same input gives the same output.
        """
        ...

    @property
    def config(self) -> dict[str, Any]:
        """The options of its training, as JSON can hold them."""
        ...

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the trained numbers by name."""
        ...

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], item_ids: list[str], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild a model. Options unknown to this version are ignored.

        Raises: ShapeError for tensors that do not fit, ModelError for an option out of its bounds.
        """
        ...


@runtime_checkable
class ScoresPairs(Protocol):
    """A model whose scores are no inner products: these, of its vectors, nominate items in a large catalogue, and it scores them itself."""

    def pair_scores(self, vectors: F32, places: NDArray[np.int64]) -> F32:
        """Return the scores (U, C) of the items at `places` (U, C) on the model's axis, 0 where that is −1, by users' vectors (U, D)."""
        ...

    def scores(self, histories: Histories) -> F32:
        """Return the scores of all items, (U, I); 0 for a history that it cannot read."""
        ...


@runtime_checkable
class ReadsProfiles(Protocol):
    """A model whose users' vectors have a part that profiles make, if it `reads_attributes`."""

    @property
    def reads_attributes(self) -> bool:
        """True if it has learnt from profiles."""
        ...

    def with_profiles(self, vectors: F32, profiles: ProfileColumns) -> F32:
        """Return the vectors (U, D) of histories with what the profiles (U) of the same users add."""
        ...


@runtime_checkable
class NamesValues(Protocol):
    """A model that knows which values its items say, and what each adds to a score: a reason can name it."""

    shared_values: tuple[ItemValues, F32] | None
    """The values that items say, and the vectors (F, D) of the values; None where nothing is known."""

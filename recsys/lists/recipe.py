"""A recipe: the trained numbers that turn the features of candidates into scores, and the recency constants that they were trained with.

    score = w · x + v · max(0, Wᵀx + b),   x = (features − mean) / scale, within ±CLIP

Shapes: F features, H hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import chain
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from recsys.errors import ModelError, ShapeError
from recsys.lists.feature_names import FEATURE_VERSION, FEATURES
from recsys.lists.reading import CooccurrenceReading, Recency

F32 = NDArray[np.float32]

MAX_HIDDEN = 128
MAX_NUMBER = 1e4
"""Largest magnitude of a trained number; usual ones stay below 10."""
MAX_EXTRAS = 64
CLIP = 6.0
"""Standardised features are cut at ± this, so that a value never seen in training does not decide alone."""
_BOUNDS = {
    "step": (0.0, 1.0),
    "age_s": (1.0, 1e9),
    "power": (0.0, 10.0),
    "long_share": (0.0, 100.0),
    "long_step": (0.0, 1.0),
    "source_power": (0.0, 2.0),
    "candidate_power": (0.0, 2.0),
    "candidate_offset": (0.0, 1e6),
}


@dataclass(frozen=True, slots=True)
class RecipeSettings:
    """Constants of the sources that a recipe was trained with: recency of interactions for co-occurrence, for its wide reading (whose ages
    are until now) and for content, exponents of popularity in co-occurrence. Times in seconds.

    Raises: ModelError for a number out of its bounds.
    """

    cooccurrence: Recency = field(default_factory=lambda: CooccurrenceReading().recency)
    wide: Recency = field(default_factory=lambda: Recency(step=0.97, age_s=86_400.0))
    content: Recency = field(default_factory=lambda: Recency(step=0.75, age_s=90.0))
    source_power: float = 0.6
    candidate_power: float = 0.33
    candidate_offset: float = 20.0

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in ("source_power", "candidate_power", "candidate_offset")}
        recencies = [asdict(recency).items() for recency in (self.cooccurrence, self.wide, self.content)]
        for name, value in chain(values.items(), *recencies):
            least, most = _BOUNDS[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ModelError(f"recipe option {name}: got {value!r:.20}, needs a number from {least:g} to {most:g}")

    def reading(self, reading: CooccurrenceReading) -> CooccurrenceReading:
        """Return the constants of co-occurrence with the similarity of `reading`."""
        return CooccurrenceReading(self.cooccurrence, reading.similarity, self.source_power, self.candidate_power, self.candidate_offset)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """Read settings from JSON. Options unknown to this version are ignored. Raises: ModelError."""
        known = {one.name for one in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in config.items():
            if name in ("cooccurrence", "wide", "content"):
                if not isinstance(value, Mapping) or not {"step", "age_s"} <= set(value):
                    raise ModelError(f"recipe option {name}: got {value!r:.40}, needs an object with step and age_s")
                values[name] = Recency(**{key: number for key, number in value.items() if key in _BOUNDS})
            elif name in known:
                values[name] = value
        try:
            return cls(**values)
        except TypeError as error:
            raise ModelError(f"recipe options do not fit: {error}") from error


def checked_extras(extras: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """Return two weights for each source by name. Raises: ModelError unless these are at most `MAX_EXTRAS` pairs from 0 to `MAX_NUMBER`."""
    if len(extras) > MAX_EXTRAS:
        raise ModelError(f"recipe option extras: {len(extras)} sources, at most {MAX_EXTRAS} have weights")
    found = {}
    for name, weights in extras.items():
        pair = tuple(weights) if isinstance(weights, list | tuple) else ()
        if len(pair) != 2 or not all(type(one) in (int, float) and 0 <= one <= MAX_NUMBER for one in pair):
            raise ModelError(f"recipe option extras: {name:.40} has {weights!r:.40}, needs two numbers from 0 to {MAX_NUMBER:g}")
        found[name] = pair
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Recipe:
    """Trained numbers, all float32: `mean`, `scale` and `linear` (F,); `hidden` (F, H), `bias` and `output` (H,), where H may be 0.
    `extras` are trained weights of sources that no feature stands for, by name: of a candidate's share of the source's best score, and of
    the logarithm of that share, which is 1 for the best and 0 for none.

    Raises: ModelError for a number that is not finite or out of bounds, or features of another version; ShapeError for shapes that do not
    fit together.
    """

    kind: ClassVar[str] = "recipe"

    mean: F32
    scale: F32
    linear: F32
    hidden: F32
    bias: F32
    output: F32
    settings: RecipeSettings = field(default_factory=RecipeSettings)
    feature_version: int = FEATURE_VERSION
    extras: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_extras(self.extras)
        if self.feature_version != FEATURE_VERSION:
            raise ModelError(
                f"the recipe needs features of version {self.feature_version}, and there are those of {FEATURE_VERSION}: train it again"
            )
        n, (n_hidden,) = len(FEATURES), self.bias.shape if self.bias.ndim == 1 else (-1,)
        shapes = {"mean": (n,), "scale": (n,), "linear": (n,), "hidden": (n, n_hidden), "bias": (n_hidden,), "output": (n_hidden,)}
        for name, shape in shapes.items():
            array = getattr(self, name)
            if array.shape != shape:
                raise ShapeError(f"tensor {name} of the recipe has shape {array.shape}, expected {shape}")
            if array.dtype != np.float32:
                raise ShapeError(f"tensor {name} of the recipe holds {array.dtype}, expected float32")
            if not np.isfinite(array).all() or np.abs(array).max(initial=0) > MAX_NUMBER:
                raise ModelError(f"tensor {name} of the recipe: it holds numbers that are not finite or beyond ±{MAX_NUMBER:g}")
        if n_hidden > MAX_HIDDEN:
            raise ModelError(f"the recipe has {n_hidden} hidden units, at most {MAX_HIDDEN} serve")
        if not (self.scale > 0).all():
            raise ModelError("tensor scale of the recipe: it must be above 0")

    @property
    def n_hidden(self) -> int:
        return len(self.bias)

    @property
    def config(self) -> dict[str, Any]:
        """The version and names of its features, its settings and the weights of other sources, as JSON can hold them."""
        features = {"feature_version": self.feature_version, "features": list(FEATURES)}
        return {**features, "settings": asdict(self.settings), "extras": {name: list(weights) for name, weights in self.extras.items()}}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the trained numbers by name. Those of a recipe without hidden units are not among them: a store holds no empty tensor."""
        names = ("mean", "scale", "linear") + (("hidden", "bias", "output") if self.n_hidden else ())
        return {name: getattr(self, name) for name in names}

    @classmethod
    def from_tensors(cls, config: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Rebuild a recipe. Raises: ModelError, ShapeError; the message names the part."""
        version, names, settings = config.get("feature_version"), config.get("features"), config.get("settings", {})
        if version != FEATURE_VERSION or names != list(FEATURES):
            raise ModelError(
                f"the recipe needs features of version {version!r:.20}, and there are those of {FEATURE_VERSION}: train it again"
            )
        extras = config.get("extras", {})
        for option, value in (("settings", settings), ("extras", extras)):
            if not isinstance(value, Mapping):
                raise ModelError(f"recipe option {option}: it must be an object")
        for name in ("mean", "scale", "linear"):
            if name not in tensors:
                raise ModelError(f"tensor {name} of the recipe is missing")
        none = {"hidden": np.zeros((len(FEATURES), 0), np.float32), "bias": np.zeros(0, np.float32), "output": np.zeros(0, np.float32)}
        found: dict[str, NDArray[Any]] = {**none, **{name: tensors[name] for name in ("mean", "scale", "linear", *none) if name in tensors}}
        mean, scale, linear, hidden, bias, output = (found[name] for name in ("mean", "scale", "linear", "hidden", "bias", "output"))
        return cls(mean, scale, linear, hidden, bias, output, RecipeSettings.of(settings), extras=checked_extras(extras))

"""The learning rate of each step."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Schedule:
    """A rate that rises in a line over `warm_up` steps, and then falls by a cosine to `final_rate` of itself after `n_steps` steps.

    Source: Loshchilov & Hutter 2017. The rise takes at most a tenth of all steps.
    """

    rate: float
    warm_up: int
    final_rate: float
    n_steps: int

    def at(self, step: int) -> float:
        """Return the rate of a step; the first one is 1."""
        warm_up = min(self.warm_up, self.n_steps // 10)
        rise = min(1.0, step / (warm_up + 1))
        done = min(1.0, max(0.0, (step - warm_up) / max(1, self.n_steps - warm_up)))
        return self.rate * rise * (self.final_rate + (1 - self.final_rate) * 0.5 * (1 + math.cos(math.pi * done)))

"""The one figure that models are compared by. This module imports nothing, so that commands name the figure at no cost."""

from typing import Final

PLACES: Final = 10
"""Places of a list that are judged."""
GATE_METRIC: Final = f"ndcg@{PLACES}"
"""Name of the metric that decides."""

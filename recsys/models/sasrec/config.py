"""Options of SASRec: its shape and its training."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.errors import ModelError
from recsys.models.checks import DEVICES, MAX_COUNT, MAX_FACTORS, MAX_HISTORY, check_options

PRECISIONS = ("auto", "float32", "bfloat16")
BLOCKS = ("sasrec", "hstu")


@dataclass(frozen=True, slots=True)
class SASRecConfig:
    """Options of the network and of its training. Raises: ModelError for an option out of its bounds."""

    block: str = "sasrec"
    """Layers of the network: `sasrec`, attention with a softmax and a network after it, or `hstu`, gated attention that reads times."""
    factors: int = 64
    blocks: int = 2
    heads: int = 1
    expand: int = 1
    """Width of the network inside a block of SASRec, as a multiple of `factors`."""
    window: int = 50
    """Number of newest preferences that the network reads."""
    times: int = 1
    """0: a block of HSTU reads no times, only the order."""
    gaps: int = 0
    """1: the network reads the time from each item to the next, and from the newest one to the moment of the list. 0: it does not."""
    at_once: float = 0.5
    """Share of the items that training predicts from the moment of the one before, as in lists that an event makes and that are read
    later; the others are predicted from their own moment. Only with `gaps`."""
    strengths: int = 0
    """1: the network reads how strong each preference is, by powers of two of its weight. 0: it does not."""
    types: int = 0
    """1: the network reads of which type each event was. 0: it does not."""
    dropout: float = 0.2
    """Share of the numbers that a step leaves out, in units of 1/256."""
    learning_rate: float = 2e-3
    warm_up_steps: int = 500
    """Steps in which the learning rate rises from zero; at most a tenth of all steps."""
    final_rate: float = 1.0
    """Share of the learning rate that is left after `max_epochs`, or `fixed_epochs`; it falls there by a cosine. 1: it stays, and the
    averaging calms the weights."""
    averaging: float = 0.998
    """Share of itself that the moving average of the weights keeps at each step; less in the first steps. The average is what validates and
    serves. 0: the weights of the last step."""
    batch_positions: int = 4_096
    """Positions of a training step. Fewer where an epoch would have fewer than a hundred steps."""
    max_epochs: int = 60
    minutes: float = 0.0
    """Above 0: training ends after so many minutes and keeps the best so far. Two runs then differ."""
    patience: int = 5
    """Evaluations without a better NDCG@10 of the held-back items before the training ends. One follows each epoch, or every thousand
    steps of a longer one."""
    validation_users: int = 2_000
    """Users whose last item is held back from training, to decide when to stop; at most half of all."""
    sampled_above: int = 20_000
    """With more items than this, the cross-entropy runs over sampled negatives."""
    negatives: int = 4_096
    """Sampled negatives, shared by all positions of a batch."""
    precision: str = "auto"
    """Numbers of matrix products in training: `float32`, `bfloat16`, or `auto`: bfloat16 on a device that computes with it."""
    device: str = "auto"
    """Where the network is trained: `cpu`, `cuda`, or `auto`: on a graphics card if torch finds one. Lists are made on the processor."""
    fixed_epochs: int = 0
    """Above 0: the exact number of epochs, without validation (a refit)."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_options("sasrec", self, _BOUNDS)
        for name, known in (("block", BLOCKS), ("precision", PRECISIONS), ("device", DEVICES)):
            if (value := getattr(self, name)) not in known:
                raise ModelError(f"sasrec option {name}: got {value!r:.20}, needs one of {', '.join(known)}")


_BOUNDS = {
    "factors": (1, MAX_FACTORS),
    "blocks": (1, 64),
    "heads": (1, MAX_FACTORS),
    "expand": (1, 16),
    "window": (1, MAX_HISTORY),
    "times": (0, 1),
    "gaps": (0, 1),
    "at_once": (0, 1),
    "strengths": (0, 1),
    "types": (0, 1),
    "dropout": (0, 0.99),
    "learning_rate": (0, 1e3),
    "warm_up_steps": (0, MAX_COUNT),
    "final_rate": (0, 1),
    "averaging": (0, 0.99999),
    "batch_positions": (1, MAX_COUNT),
    "max_epochs": (1, MAX_COUNT),
    "minutes": (0, 100_000),
    "patience": (1, MAX_COUNT),
    "validation_users": (0, MAX_COUNT),
    "sampled_above": (0, MAX_COUNT),
    "negatives": (1, MAX_COUNT),
    "fixed_epochs": (0, MAX_COUNT),
    "seed": (0, MAX_COUNT),
}

"""A sequence model with random weights."""

from __future__ import annotations

import numpy as np
import torch

from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.model import SASRecModel
from recsys.models.sasrec.network import Network

CONFIG = SASRecConfig(factors=16, blocks=1, window=12, gaps=0, strengths=0, types=0)


def attention_model(item_ids: list[str], random: np.random.Generator) -> SASRecModel:
    """Return a network of one block whose weights are drawn from `random`."""
    with torch.device("meta"):
        shapes = {name: tuple(parameter.shape) for name, parameter in Network(len(item_ids), CONFIG).named_parameters()}
    tensors = {name: (random.standard_normal(shape) * 0.4).astype(np.float32) for name, shape in shapes.items()}
    return SASRecModel.from_tensors(vars_of(CONFIG), item_ids, tensors)


def vars_of(config: SASRecConfig) -> dict[str, object]:
    """Return the options of a configuration by name."""
    return {name: getattr(config, name) for name in config.__dataclass_fields__}

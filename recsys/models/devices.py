"""Where a network is trained: on the processor, or on a graphics card that CUDA reaches."""

from __future__ import annotations

import torch

from recsys.errors import ModelError


def device_of(name: str, number: int = 0) -> torch.device:
    """Return the device that one of `checks.DEVICES` stands for; process `number` of a training gets the card of that number, in turn.

    Raises: ModelError if CUDA is asked for and not there.
    """
    there = name != "cpu" and torch.cuda.is_available()
    if name == "cuda" and not there:
        build = "this build of torch has no CUDA" if torch.version.cuda is None else "torch finds no card"
        raise ModelError(f"option device: cuda is asked for, and {build}: install a build of torch with CUDA, or set it to auto or cpu")
    return torch.device("cuda", number % torch.cuda.device_count()) if there else torch.device("cpu")

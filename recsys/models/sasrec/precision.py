"""Numbers of matrix products in training: float32, or bfloat16 where the device computes with it."""

from __future__ import annotations

import torch


def number_type(precision: str, device: torch.device | None = None) -> torch.dtype:
    """Return the type that one of `config.PRECISIONS` stands for on this processor, or on that graphics card.

    With instructions for bfloat16, products take less than half the time. Without them they take longer than those of float32.
    """
    if precision == "auto" and device is not None and device.type == "cuda":
        precision = "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float32"
    if precision == "auto":
        named = torch.cpu.get_capabilities()
        precision = "bfloat16" if any(has for name, has in named.items() if str(name).endswith("_bf16")) else "float32"
    return torch.bfloat16 if precision == "bfloat16" else torch.float32

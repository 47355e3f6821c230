"""Adam in its plain form.

Constructing the first of torch's own optimisers imports torch's compiler, which costs a short training process a second and 100 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch


class Adam:
    """Adaptive moment estimation with bias correction. Source: Kingma & Ba 2015, algorithm 1."""

    def __init__(
        self, parameters: Iterable[torch.Tensor], learning_rate: float, betas: tuple[float, float] = (0.9, 0.98), eps: float = 1e-8
    ) -> None:
        self._parameters = list(parameters)
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._learning_rate, self._betas, self._eps, self.steps = learning_rate, betas, eps, 0

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, learning_rate: float | None = None) -> None:
        """Move every parameter against its gradient, at this rate or else that of the start. Parameters without a gradient stay."""
        self.steps += 1
        first, second = self._betas
        size = (self._learning_rate if learning_rate is None else learning_rate) / (1 - first**self.steps)
        correction = (1 - second**self.steps) ** 0.5
        for parameter, mean, square in zip(self._parameters, self._means, self._squares, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            mean.mul_(first).add_(gradient, alpha=1 - first)
            square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            parameter.addcdiv_(mean, square.sqrt().div_(correction).add_(self._eps), value=-size)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the living moments by name, for a checkpoint, which holds `steps` beside them."""
        pairs = zip(self._means, self._squares, strict=True)
        return {f"{name}.{at}": tensor for at, pair in enumerate(pairs) for name, tensor in zip(("mean", "square"), pair, strict=True)}

    def restore(self, tensors: Mapping[str, torch.Tensor], steps: int) -> None:
        """Go on from these moments after so many steps."""
        for name, tensor in self.tensors().items():
            tensor.copy_(tensors[name])
        self.steps = steps

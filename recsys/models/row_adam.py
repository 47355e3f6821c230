"""Adam for tables of which a step reads a few rows: time and gradients grow with these rows, not with the table.

Shapes: I rows of D dimensions in a table, R distinct rows of a step.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

_SPAN = 256
"""Steps after its last gradient in which a row still moves: by then a step is less than 10⁻¹⁰ of the first."""

_NOTHING = 1e-30
"""A square below this is 0: next to `eps` its root is, and processors take long over numbers that are nearly too small for them."""


class RowAdam:
    """A table (I, D) that goes as Adam takes it (`recsys.models.adam`), although a step touches only the rows that it reads.

    Rows that no step reads have gradients of 0. By these Adam multiplies both moments by constants and moves a row by a falling share
    of their quotient, so what a row has missed is one product with a sum that all rows of the same last step share; a row gets it when
    it is next read, and all when they are settled. `eps` is added to the root as it was, not to the one of each missed step, which is
    far larger. With `shrink` every row loses this share of itself after each step; what has been missed of that is made up for before
    what has been missed of the moves.
    Source: Kingma & Ba 2015, algorithm 1.
    """

    def __init__(
        self,
        table: torch.Tensor,
        learning_rate: float,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        *,
        shrink: float = 0.0,
    ) -> None:
        self._table = table.detach()
        self._means, self._squares = torch.zeros_like(self._table), torch.zeros_like(self._table)
        self._settled_at = torch.zeros(len(table), dtype=torch.int64, device=table.device)
        self._learning_rate, self._betas, self._eps, self._keep, self.steps = learning_rate, betas, eps, 1 - shrink, 0
        self._fall = (betas[0] / betas[1] ** 0.5) ** np.arange(_SPAN, 0, -1)
        self._moves = np.zeros(_SPAN + 1)
        self._rows, self._read = torch.zeros(0, dtype=torch.int64, device=table.device), self._table[:0]
        self._moments = (self._read, self._read)

    @torch.no_grad()
    def read(self, rows: torch.Tensor) -> torch.Tensor:
        """Return rows (R,), distinct ones, as a leaf (R, D) whose gradient the next `step` follows."""
        self._rows = rows
        self._read, *moments = self._caught_up(self._table[rows], self._means[rows], self._squares[rows], self._settled_at[rows])
        self._moments = moments[0], moments[1]
        return self._read.requires_grad_()

    @torch.no_grad()
    def step(self, learning_rate: float | None = None) -> None:
        """Move the rows that were read against their gradient, at this rate or else that of the start."""
        gradient, rows, (first, second) = self._read.grad, self._rows, self._betas
        gradient = torch.zeros_like(self._read) if gradient is None else gradient
        self.steps += 1
        size = (self._learning_rate if learning_rate is None else learning_rate) / (1 - first**self.steps)
        correction = (1 - second**self.steps) ** 0.5
        self._note_move(size * correction)
        means, squares = self._moments
        means.mul_(first).add_(gradient, alpha=1 - first)
        squares.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        moved = self._read.detach().addcdiv(means, squares.sqrt().div_(correction).add_(self._eps), value=-size)
        self._table[rows] = moved.mul_(self._keep)
        self._means[rows], self._squares[rows], self._settled_at[rows] = means, squares, self.steps

    @torch.no_grad()
    def settle(self) -> None:
        """Bring every row to where the last step left it; call it before the table is read as a whole."""
        caught_up = self._caught_up(self._table, self._means, self._squares, self._settled_at)
        for kept, found in zip((self._table, self._means, self._squares), caught_up, strict=True):
            kept.copy_(found)
        self._settled_at[:] = self.steps

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the living moments, and what rows have missed, by name, for a checkpoint, which holds `steps` beside them."""
        moves = torch.from_numpy(self._moves[: self.steps + _SPAN + 1])
        return {"means": self._means, "squares": self._squares, "settled_at": self._settled_at, "moves": moves}

    def restore(self, tensors: Mapping[str, torch.Tensor], steps: int) -> None:
        """Go on from these after so many steps."""
        for kept, name in ((self._means, "means"), (self._squares, "squares"), (self._settled_at, "settled_at")):
            kept.copy_(tensors[name])
        self._moves, self.steps = tensors["moves"].numpy().copy(), steps

    def _note_move(self, size: float) -> None:
        """Add this step's move to the sums of the rows that were settled in the steps before, (T + _SPAN,): the last is of this step."""
        if len(self._moves) < self.steps + _SPAN + 1:
            self._moves = np.concatenate([self._moves, np.zeros(max(1_024, len(self._moves)))])
        self._moves[self.steps : self.steps + _SPAN] += size * self._fall

    def _caught_up(
        self, table: torch.Tensor, means: torch.Tensor, squares: torch.Tensor, settled_at: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return rows and their moments (R, D) as the steps since they were `settled_at` (R,) leave them."""
        missed = (self.steps - settled_at).double().unsqueeze(1)  # (R, 1)
        moves = torch.from_numpy(self._moves).to(table.device)[settled_at + _SPAN].float().unsqueeze(1)  # (R, 1)
        kept, (first, second) = torch.pow(self._keep, missed).float(), self._betas
        moved = (table * kept).addcdiv_(means * moves, squares.sqrt().add_(self._eps), value=-1)
        decayed = squares * torch.pow(second, missed).float()
        return moved, means * torch.pow(first, missed).float(), decayed.masked_fill_(decayed < _NOTHING, 0.0)

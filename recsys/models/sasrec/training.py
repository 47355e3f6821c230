"""Training of SASRec: steps, averaged weights, and an end by the NDCG of held-back items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch

from recsys.errors import ShapeError, TooFewInteractions
from recsys.models.adam import Adam
from recsys.models.base import Model
from recsys.models.checkpoint import Checkpoint, Checkpoints, Tensors, fingerprint, prefixed, state_of, under
from recsys.models.devices import device_of
from recsys.models.ranks import ALONE, Ranks
from recsys.models.row_adam import RowAdam
from recsys.models.sasrec.averaging import Average
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.losses import Graded, full_loss, sampled_loss
from recsys.models.sasrec.model import SASRecModel
from recsys.models.sasrec.negatives import Popularity
from recsys.models.sasrec.network import Network
from recsys.models.sasrec.noise import Noise
from recsys.models.sasrec.precision import number_type
from recsys.models.sasrec.resumption import Place, Resumption
from recsys.models.sasrec.schedule import Schedule
from recsys.models.sasrec.sequences import Batch, HeldBack, Sequences, hold_back, share_of, windows
from recsys.models.sasrec.validation import Judged
from recsys.models.training import Epoch, Progress, go_on, warm_rows
from recsys.models.training_set import TrainingSet

_EPOCH_STEPS = 100
"""Batches get smaller where an epoch would have fewer steps than this, down to `_LEAST_POSITIONS`."""
_LEAST_POSITIONS = 128
_EVALUATION_STEPS = 1_000
"""The held-back items are looked at after each epoch, and within one after so many steps."""
_ASKED_STEPS = 20
"""Steps after which progress is asked whether to go on: some seconds of training."""
_LONGEST_GRADIENT = 5.0


def fit(
    interactions: TrainingSet,
    config: SASRecConfig,
    progress: Progress | None = None,
    warm_start: Model | None = None,
    checkpoints: Checkpoints | None = None,
    ranks: Ranks = ALONE,
) -> SASRecModel:
    """Train on the preferences (weight > 0) in order of time; their weights say how strong each is that the network reads.

    The last item of some users is held back. The averaged weights with the best NDCG@10 on these items are the result, and training
    ends after `config.patience` evaluations without a better one. Above `config.sampled_above` items a step reads and moves only the
    items of its batch and its negatives (`recsys.models.row_adam`). With `config.fixed_epochs` nothing is held back and the last step
    counts. A warm start copies the earlier network and the embeddings of the items that both know. If `interactions.unseen` says what
    the earlier model was not trained on, only such items are held back; without any the training ends after `config.patience` epochs.
    `progress` may stop the training after any step. The same seed gives the same loss for one number of threads and one precision.
    With `checkpoints` the training goes on from the newest one, and makes others.
    Of several `ranks` each reads its share of the rows of a batch; they take the steps of one process, but for rounding and dropout. The
    first one's warm start, progress and checkpoints count, and its machine decides what is rounded; the others need the same data.
    Raises: ShapeError if heads do not divide factors; TooFewInteractions without a user with two preferences.
    """
    if config.factors % config.heads:
        raise ShapeError(f"{config.heads} heads do not divide {config.factors} factors")
    positive = interactions.positive()
    is_warm = bool(ranks.share({"is_warm": isinstance(warm_start, SASRecModel)}, {})[0]["is_warm"])
    unseen = positive.unseen if is_warm else None
    types = np.zeros(len(positive), np.uint8) if positive.types is None else positive.types
    sequences = Sequences(positive.items.astype(np.int64), positive.user_starts(), positive.ts_ms // 1_000, positive.weights, types, unseen)
    if sequences.lengths().max(initial=0) < 2:
        raise TooFewInteractions("a sequence model needs at least one user with two preferences")
    random = np.random.default_rng(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]):  # layers draw their first weights from torch's global generator, before `initialise` does
        network = Network(positive.n_items, config)
    network.initialise(generator)
    device = device_of(config.device, ranks.number)
    if isinstance(warm_start, SASRecModel):
        _warm_start(network, positive.item_ids, warm_start)
    training, held_back = (sequences, None) if config.fixed_epochs else hold_back(sequences, config, random)
    blind = held_back is None and sequences.unseen is not None
    n_epochs = config.fixed_epochs or (min(config.patience, config.max_epochs) if blind else config.max_epochs)
    counts = torch.from_numpy(np.bincount(positive.items, minlength=positive.n_items).astype(np.float32))
    run = _Run(network.to(device), config, counts, held_back, generator, ranks)
    resumption = Resumption(checkpoints, fingerprint("sasrec", config, positive, [np.array([is_warm])]))
    run.train(training, n_epochs, random, progress, resumption)
    return SASRecModel(config, positive.item_ids, run.result().cpu())


class Pass(NamedTuple):
    """States (N, D) that the network computed, and the loss of them with its gradients."""

    states: torch.Tensor
    graded: Graded


class _Run:
    """One training: its network, the moving average of it, and the best average so far."""

    def __init__(
        self,
        network: Network,
        config: SASRecConfig,
        counts: torch.Tensor,
        held_back: HeldBack | None,
        generator: torch.Generator,
        ranks: Ranks,
    ) -> None:
        self._network, self._config, self._held_back, self._generator, self._ranks = network, config, held_back, generator, ranks
        self._device = network.items.device
        is_card = self._device.type == "cuda"
        self._own_noise = generator if ranks.count == 1 and not is_card else torch.Generator(self._device if is_card else "cpu")
        self._noise, self._numbers = Noise(config.dropout, self._own_noise), number_type(config.precision, self._device)
        is_sampled = len(network.items) > config.sampled_above
        self._table = RowAdam(network.items, config.learning_rate) if is_sampled else None
        self._popularity = Popularity(counts, generator) if is_sampled else None
        self._parameters = [each for each in network.parameters() if not is_sampled or each is not network.items]
        self._optimiser = Adam(self._parameters, config.learning_rate)
        self._average = Average(network, config.averaging, by_rows=is_sampled)
        self._best: Judged | None = None
        self._best_weights: dict[str, torch.Tensor] = {}
        self._since_best = self._n_steps = self._judged_at = 0

    def train(
        self, training: Sequences, n_epochs: int, random: np.random.Generator, progress: Progress | None, resumption: Resumption
    ) -> None:
        """Take steps until the epochs are over, patience ends or `progress` says so."""
        positions = _batch_positions(training, self._config.batch_positions)
        at = resumption.go_on(self, random, self._ranks)
        n_examples = 0
        for epoch in range(at.epoch, n_epochs):
            began = state_of(random)
            batches = windows(training, self._config.window, positions, random, self._config.at_once if self._config.gaps else None)
            all_steps = at.all_steps = at.all_steps or n_epochs * len(batches)
            schedule = Schedule(self._config.learning_rate, self._config.warm_up_steps, self._config.final_rate, all_steps)
            for step, message, loss, n in self._epoch(batches, schedule, at.step if epoch == at.epoch else 0):
                said, n_examples = f"sasrec: epoch {epoch + 1}, {message}", n_examples + n
                figures = Epoch("sasrec", epoch + 1, n_epochs, loss, n_examples)
                going = go_on(progress, min(1.0, self._n_steps / all_steps), said, figures)
                if not self._ranks.share({"going": going}, {})[0]["going"] or self._since_best >= self._config.patience:
                    return
                resumption.save(self, Place(epoch, step, all_steps, began))

    def _epoch(self, batches: list[Batch], schedule: Schedule, done: int) -> Iterator[tuple[int, str, float, int]]:
        """Take the steps of an epoch after those that are `done`; at its end and now and then within it yield the number of steps, what can
        be said of them, their mean loss, and the examples since."""
        losses, n_examples = list[torch.Tensor](), 0
        for at, batch in enumerate(batches[done:], done + 1):
            self._n_steps += 1
            losses.append(self._step(batch, schedule.at(self._n_steps)))
            n_examples += int((batch.targets >= 0).sum())
            is_last = at == len(batches)
            if is_last or at % _ASKED_STEPS == 0:
                loss = float(torch.cat(losses).double().mean())
                message = f"loss {loss:.3f}" if is_last else f"step {at} of {len(batches)}, loss {loss:.3f}"
                if self._held_back is not None and (is_last or at % _EVALUATION_STEPS == 0):
                    judged = self._judge(self._held_back)
                    message += f", validation NDCG@10 {judged.ndcg:.4f}, loss {-judged.negated_loss:.3f}"
                yield at, message, loss, n_examples
                n_examples = 0

    def _step(self, batch: Batch, learning_rate: float) -> torch.Tensor:
        """Take a step; return the loss, (1,). Nothing waits for a graphics card here: sizes are known from what is on the processor."""
        self._optimiser.clear()
        if self._own_noise is not self._generator:
            seeds = np.random.SeedSequence([self._config.seed, self._n_steps, self._ranks.number])
            self._own_noise.manual_seed(int(seeds.generate_state(1)[0]))
        if self._table is not None and self._popularity is not None:
            return self._sampled_step(batch, learning_rate, self._table, self._popularity)
        items = self._network.items

        def graded(own: Batch) -> Pass:
            chosen, targets = self._chosen(own)
            return Pass(chosen, full_loss(chosen, targets, items, self._numbers))

        loss = self._move(batch, graded, self._parameters, items, learning_rate)
        self._average.step()
        return loss

    def _chosen(self, own: Batch, items: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the states (N, D) after the positions of a batch that have targets, and these (N,), places in `items` if given."""
        flat = own.targets.flatten()
        real = torch.nonzero(flat >= 0).squeeze(1)  # (N,)
        states = self._network(own.inputs.to(self._device), own.signals.to(self._device), self._noise, self._numbers, items)  # (B, L, D)
        return states.flatten(0, 1)[real.to(self._device)], flat[real].to(self._device)

    def _sampled_step(self, batch: Batch, learning_rate: float, table: RowAdam, popularity: Popularity) -> torch.Tensor:
        """Do as `_step` does with the items of the batch and drawn ones alone: nothing is as large as the catalogue."""
        real, negatives = batch.targets >= 0, popularity.draw(self._config.negatives)
        named = torch.cat([batch.inputs.flatten(), batch.targets[real], negatives.items])
        rows, places = torch.unique(named, return_inverse=True)  # (R,)
        inputs, wanted, drawn = places.split([batch.inputs.numel(), int(real.sum()), len(negatives.items)])
        rows = rows.to(self._device)
        items, negatives = table.read(rows), negatives._replace(items=drawn).to(self._device)  # (R, D)
        targets = torch.full_like(batch.targets, -1)
        targets[real] = wanted

        def graded(own: Batch) -> Pass:
            chosen, wanted = self._chosen(own, items)
            return Pass(chosen, sampled_loss(chosen, wanted, items, negatives, self._numbers))

        placed = Batch(inputs.view_as(batch.inputs), targets, batch.signals)
        loss = self._move(placed, graded, [*self._parameters, items], items, learning_rate)
        table.step(learning_rate)
        self._average.step(rows, items)
        return loss

    def _move(
        self,
        batch: Batch,
        graded: Callable[[Batch], Pass],
        parameters: Sequence[torch.Tensor],
        items: torch.Tensor,
        learning_rate: float,
    ) -> torch.Tensor:
        """Sum the gradients of all ranks, those of the loss for the items added to theirs as inputs, bound them together, and take a step.

        Return the mean loss of the batch, (1,).
        """
        own, share = share_of(batch, self._ranks.number, self._ranks.count)
        loss = torch.zeros(1, device=self._device)
        if share:
            chosen, (mean, of_states, of_items) = graded(own)
            torch.autograd.backward(chosen, of_states if share == 1 else of_states * share)
            assert items.grad is not None
            items.grad += of_items if share == 1 else of_items * share
            loss += mean * share
        if self._ranks.count > 1:
            for parameter in parameters:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            self._ranks.sum([loss, *(parameter.grad for parameter in parameters if parameter.grad is not None)])
        torch.nn.utils.clip_grad_norm_(parameters, _LONGEST_GRADIENT)
        self._optimiser.step(learning_rate)
        return loss

    def _judge(self, held_back: HeldBack) -> Judged:
        self._settle()
        figures = asdict(Judged.of(self._average.network, held_back)) if self._ranks.number == 0 else {}
        judged = Judged(**self._ranks.share(figures, {})[0])
        self._since_best, self._judged_at = self._since_best + 1, self._n_steps
        if self._best is None or judged > self._best:
            self._best, self._since_best = judged, 0
            self._best_weights = {name: each.detach().clone() for name, each in self._average.network.named_parameters()}
        return judged

    def tensors(self) -> Tensors:
        """Return the living tensors, for a checkpoint; the best weights are not among them."""
        found = prefixed("network", dict(self._network.named_parameters())) | prefixed("optimiser", self._optimiser.tensors())
        if self._table is not None:
            found |= prefixed("table", self._table.tensors())
        return _on_processor(found | prefixed("average", self._average.tensors())) | {"generator": self._generator.get_state()}

    def best(self) -> Tensors:
        """Return the best weights so far."""
        return _on_processor(prefixed("best", self._best_weights))

    def values(self) -> dict[str, Any]:
        """Return everything else that a checkpoint needs."""
        best = None if self._best is None else [self._best.ndcg, self._best.negated_loss]
        steps = {"n_steps": self._n_steps, "since_best": self._since_best, "judged_at": self._judged_at, "best": best}
        return steps | {"average": self._average.values()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        tensors, values = checkpoint.tensors, checkpoint.values
        self._network.load_state_dict(under("network", tensors))
        self._n_steps, self._since_best, self._judged_at = values["n_steps"], values["since_best"], values["judged_at"]
        self._optimiser.restore(under("optimiser", tensors), self._n_steps)
        if self._table is not None:
            self._table.restore(under("table", tensors), self._n_steps)
        self._average.restore(under("average", tensors), values["average"])
        self._generator.set_state(tensors["generator"])
        self._best = None if values["best"] is None else Judged(*values["best"])
        self._best_weights = under("best", tensors)

    def _settle(self) -> None:
        """Bring all items and their averages to where the last step left them."""
        if self._table is not None:
            self._table.settle()
        self._average.settle()

    def result(self) -> Network:
        """Return the network with the best weights; those of the end where nothing was held back or looked at."""
        self._settle()
        if self._held_back is not None and self._best is not None and self._judged_at < self._n_steps:
            self._judge(self._held_back)
        if self._best_weights:
            self._average.network.load_state_dict(self._best_weights)
        return self._average.network


def _on_processor(tensors: Tensors) -> Tensors:
    """Return tensors that a checkpoint or another process can take; those of the processor are the living ones."""
    return {name: tensor.detach().cpu() for name, tensor in tensors.items()}


def _batch_positions(training: Sequences, most: int) -> int:
    """Return the positions of a batch: at most `most`, fewer where that leaves an epoch few steps."""
    n_targets = int(np.maximum(training.lengths() - 1, 0).sum())
    return min(most, max(_LEAST_POSITIONS, n_targets // _EPOCH_STEPS))


def _warm_start(network: Network, item_ids: list[str], earlier: SASRecModel) -> None:
    """Copy from an earlier network every tensor of the same shape, and the embeddings of the items that both know."""
    theirs = dict(earlier.network.named_parameters())
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            source = theirs.get(name)
            if name == "items":
                if source is not None and source.shape[1] == parameter.shape[1]:
                    here, there = warm_rows(item_ids, earlier.item_ids)
                    parameter[here] = source[there]
            elif source is not None and source.shape == parameter.shape:
                parameter.copy_(source)

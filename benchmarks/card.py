"""Measure training on a graphics card: examples a second of SASRec, HSTU and iALS, and the share of what the card computes at most.

Examples:
    python -m benchmarks.card --json
    python -m benchmarks.card --device cpu --users 2000 --items 3000 --events 40000 --seconds 5

Data: generated, `--users` users with one preference each or more, `--events` in all, of `--items` items by Zipf's law, of which a tenth of
each user's follow from the item before. Nothing is judged here, only timed.

* `sasrec`, `hstu`: the default options (with two blocks, 64 factors), `--window` items; above 20,000 items the loss runs over sampled
  negatives. Steps of `--seconds` after a warm-up of at least 20 steps. Examples are predicted items. `flops_per_s` counts matrix products
  of one step, forwards and backwards, by torch's counter.
* `ials`: 64 factors, two sweeps after one that warms up; examples are pairs of a user and an item times two half-sweeps.
* limit of the same run: products of two square matrices of 8,192 rows (of 1,024 on a processor) in the same numbers. `share_of_limit` is
  `flops_per_s` over that of these.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.figures import benchmark_parser, emit, run_benchmark
from recsys.errors import ModelError
from recsys.models.checks import DEVICES
from recsys.models.devices import device_of
from recsys.models.ials import model as ials
from recsys.models.ials.sweeps import both_sides, half_sweep, random_factors
from recsys.models.sasrec import training
from recsys.models.sasrec.config import SASRecConfig
from recsys.models.sasrec.precision import number_type
from recsys.models.training import Epoch
from recsys.models.training_set import TrainingSet
from workers.errors import Fatal

KINDS = ("sasrec", "hstu", "ials")
FOLLOWING = 0.1
"""Share of the events that follow from the one before."""


def generated(n_users: int, n_items: int, n_events: int, seed: int) -> TrainingSet:
    """Return preferences of all users; the shape is that of a shop's log, what they say is not."""
    random = np.random.default_rng(seed)
    users = np.sort(np.concatenate([np.arange(n_users), random.integers(0, n_users, max(n_events - n_users, 0))])).astype(np.int32)
    items = (n_items ** random.random(len(users)) - 1).astype(np.int64)  # log-uniform, which is Zipf's law with exponent 1
    follows = np.flatnonzero(random.random(len(users)) < FOLLOWING)
    items[follows[1:]] = (items[follows[1:] - 1] + 1) % n_items
    ts_ms = np.arange(len(users), dtype=np.int64) * 1_000 + 1_700_000_000_000
    names = [str(number) for number in range(n_items)]
    return TrainingSet.from_columns(users, items.astype(np.int32), names, np.ones(len(users), np.float32), ts_ms)


def finish(device: torch.device) -> None:
    """Wait until a card has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def limit(device: torch.device, numbers: torch.dtype, size: int, seconds: float) -> float:
    """Return floating-point operations a second of products of two square matrices."""
    left, right = (torch.randn(size, size, device=device).to(numbers) for _ in range(2))
    for _ in range(3):
        left @ right
    finish(device)
    began, n = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        left @ right
        finish(device)
        n += 1
    return 2 * size**3 * n / (time.monotonic() - began)


@dataclass
class Steps:
    """Watches a training: examples and seconds from the first report on until the time is up."""

    seconds: float
    device: torch.device
    began: float = 0.0
    ended: float = 0.0
    first: int = 0
    last: int = 0

    def watch(self, epoch: Epoch) -> None:
        finish(self.device)
        self.ended, self.last = time.monotonic(), epoch.n_examples
        if not self.began:
            self.began, self.first = self.ended, self.last

    def __call__(self, done: float, message: str) -> bool:
        return self.ended - self.began < self.seconds

    @property
    def per_s(self) -> float:
        return (self.last - self.first) / max(self.ended - self.began, 1e-9)


def of_network(block: str, data: TrainingSet, device: torch.device, window: int, seconds: float) -> dict[str, float]:
    """Train one kind of network and return its figures."""
    config = SASRecConfig(block=block, window=window, device=device.type, validation_users=0, max_epochs=1_000, batch_positions=65_536)
    steps, counted = Steps(seconds, device), dict[str, float]()
    step_of = training._Run._step

    def counting(run: Any, batch: Any, learning_rate: float) -> torch.Tensor:
        if counted:
            return step_of(run, batch, learning_rate)
        with FlopCounterMode(display=False) as counter:
            loss = step_of(run, batch, learning_rate)
        counted.update(flops=counter.get_total_flops(), examples=int((batch.targets >= 0).sum()))
        return loss

    training._Run._step = counting  # type: ignore[assignment, method-assign]
    try:
        training.fit(data, config, steps)
    finally:
        training._Run._step = step_of  # type: ignore[method-assign]
    per_example = counted["flops"] / max(counted["examples"], 1)
    return {"examples_per_s": steps.per_s, "flops_per_example": per_example, "flops_per_s": per_example * steps.per_s}


def of_ials(data: TrainingSet, device: torch.device) -> dict[str, float]:
    """Solve both sides and return the figures."""
    config = ials.IALSConfig(unobserved_weight=0.1, regularisation=0.01, device=device.type)
    with torch.inference_mode():
        by_user, by_item = both_sides(data.entries(config.history_length), device)
        items = random_factors(data.n_items, config).to(device)
        users, n_pairs = torch.zeros((data.n_users, config.factors), device=device), len(data)
        for sweep in range(3):
            if sweep == 1:
                finish(device)
                began = time.monotonic()
            users = half_sweep(by_user, items, users, config)
            items = half_sweep(by_item, users, items, config)
        finish(device)
        seconds = (time.monotonic() - began) / 2
    return {"examples_per_s": 2 * n_pairs / seconds, "sweep_s": seconds}


def main() -> int:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--kinds", default=",".join(KINDS), help="separated by commas")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--window", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each network")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    if unknown := [kind for kind in kinds if kind not in KINDS]:
        raise Fatal(f"--kinds: {unknown[0]!r} is none of {', '.join(KINDS)}")
    try:
        device = device_of(options.device)
    except ModelError as error:
        raise Fatal(str(error)) from None
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the processor"
    numbers = number_type("auto", device)
    most = limit(device, numbers, 8_192 if device.type == "cuda" else 1_024, min(options.seconds, 3.0))
    data = generated(options.users, options.items, options.events, options.seed)
    figures: dict[str, Any] = {"device": name, "numbers": str(numbers).removeprefix("torch."), "limit_flops_per_s": most}
    rows: list[tuple[object, ...]] = []
    for kind in kinds:
        found = of_ials(data, device) if kind == "ials" else of_network(kind, data, device, options.window, options.seconds)
        if "flops_per_s" in found:
            found["share_of_limit"] = found["flops_per_s"] / most
        figures |= {f"{kind}_{key}": value for key, value in found.items()}
        share = f"{found['share_of_limit']:.3f}" if "share_of_limit" in found else "–"
        rows.append((kind, f"{found['examples_per_s']:,.0f}", share))
    if device.type == "cuda":
        figures["peak_gb"] = torch.cuda.max_memory_allocated(device) / 1e9
    title = f"{name}, {len(data):,} preferences of {data.n_users:,} users and {data.n_items:,} items, {figures['numbers']}"
    emit("card", title, ("kind", "examples/s", "share of the limit"), rows, figures, as_json=options.json)
    return 0


if __name__ == "__main__":
    run_benchmark(main)

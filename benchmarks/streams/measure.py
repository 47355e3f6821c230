"""What `benchmarks.streams` measures of one log, in parts that run in processes of their own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.streams.baselines import Baseline, baselines
from benchmarks.streams.lists import ListStream, list_config
from benchmarks.streams.log import Log, named_log, read_log
from benchmarks.streams.protocol import PROTOCOLS, Stream
from benchmarks.streams.report import Figures, figures_of
from benchmarks.streams.training import Schedule
from recsys.engine import Engine
from workers.lists.engine_config import engine_config
from workers.settings import load_settings

F64 = NDArray[np.float64]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """A log to measure: the name of a data set, or files; of its events the first `n_events`, 0 for all."""

    name: str = ""
    file: Path | None = None
    items: Path | None = None
    n_events: int = 0

    def read(self) -> Log:
        """Read it. Raises: BadFile, DatasetMissing."""
        log = named_log(self.name) if self.file is None else read_log(self.file, self.items)
        return log.first(self.n_events)


def measure_baselines(source: Source) -> tuple[dict[str, dict[str, Baseline]], float]:
    """Return the baselines' ranks and the seconds that they took."""
    started = time.perf_counter()
    found = baselines(Stream.of(source.read()))
    return found, time.perf_counter() - started


def measure_list(source: Source, protocol: str, batch_events: int, seed: int) -> tuple[F64, float]:
    """Return the ranks of a protocol's targets on the product's lists, and the seconds that they took."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    stream = Stream.of(source.read())
    targets = stream.events[stream.targets(protocol)]
    if not len(targets):
        return np.zeros(0), time.perf_counter() - started
    engine = Engine(list_config(engine_config(load_settings()), seed, protocol))
    ranks = ListStream(stream, engine).ranks(batch_events, Schedule(stream, engine, seed), protocol)[targets]
    return ranks, time.perf_counter() - started


class Measuring:
    """The parts of all measurements, divided among processes."""

    def __init__(self, pool: Executor, sources: list[Source], batch_events: int, seed: int) -> None:
        self._lists: list[dict[str, Future[tuple[F64, float]]]] = []
        self._baselines: list[Future[tuple[dict[str, dict[str, Baseline]], float]]] = []
        for source in sources:  # one after another, so that the first figures are there early
            self._lists.append({protocol: pool.submit(measure_list, source, protocol, batch_events, seed) for protocol in PROTOCOLS})
            self._baselines.append(pool.submit(measure_baselines, source))

    def figures(self, place: int, name: str, notes: tuple[str, ...]) -> Figures:
        """Wait for the parts of one source, and return its figures."""
        lists = {protocol: part.result() for protocol, part in self._lists[place].items()}
        by_protocol, seconds = self._baselines[place].result()
        ranks: dict[str, dict[str, tuple[F64, str]]] = {
            protocol: {"list": (lists[protocol][0], ""), **{ranker: (one.ranks, one.chosen) for ranker, one in found.items()}}
            for protocol, found in by_protocol.items()
        }
        return figures_of(name, ranks, notes, seconds + sum(spent for _, spent in lists.values()))


class _InThisProcess(Executor):
    """Runs each call when it is submitted."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        future: Future[T] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def executor(n_jobs: int) -> Executor:
    """Return what runs the parts: this process, or `n_jobs` others."""
    return _InThisProcess() if n_jobs == 1 else ProcessPoolExecutor(n_jobs, multiprocessing.get_context("spawn"))

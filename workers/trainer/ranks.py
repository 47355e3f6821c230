"""Processes that train one model together, joined by torch.distributed: gloo, and NCCL between graphics cards.

The first process runs the round. The others attend: they get each training's data from it, and train along. Nothing sent is pickled.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from datetime import timedelta
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import distributed

from recsys.errors import CoreError
from recsys.models.ranks import ALONE, Ranks
from recsys.models.registry import MODELS
from recsys.models.training_set import TrainingSet
from workers.errors import Transient

LONGEST_WAIT = timedelta(days=7)
"""Between two trainings: the first process judges and stores. One that dies is noticed at once, by its connections."""
COLUMNS = ("users", "items", "weights", "ts_ms", "unseen", "types")
"""What of a training set the other processes get."""
END_GRACE_S = 10.0


class Lost(Transient):
    """A process that takes part in a training has gone."""

    def __init__(self, error: Exception) -> None:
        why = str(error).splitlines()[0][:200]
        super().__init__(f"a process that trains with this one ended ({why}); its own lines say why, and the next round tries again")


class Group(Ranks):
    """The processes of torch's process group, which has been made."""

    def __init__(self) -> None:
        self.number, self.count = distributed.get_rank(), distributed.get_world_size()
        self._is_lost = False

    def sum(self, tensors: Sequence[torch.Tensor]) -> None:
        """Sum tensors of float32 over the processes. Raises: Lost."""
        joined = torch.cat([tensor.flatten() for tensor in tensors])
        self._do(lambda: distributed.all_reduce(joined))
        for tensor, summed in zip(tensors, joined.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def share(self, values: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return the first process's values and tensors. Raises: Lost."""
        kept = {name: tensor.detach().contiguous() for name, tensor in tensors.items()} if self.number == 0 else {}
        shapes = [(name, str(tensor.dtype).removeprefix("torch."), list(tensor.shape)) for name, tensor in kept.items()]
        text = np.frombuffer(json.dumps([values, shapes] if self.number == 0 else None).encode(), np.uint8)
        size = torch.tensor([len(text)])
        self._do(lambda: distributed.broadcast(size, 0))
        said = torch.from_numpy(text.copy()) if self.number == 0 else torch.empty(int(size), dtype=torch.uint8)
        self._do(lambda: distributed.broadcast(said, 0))
        if self.number == 0:
            for tensor in kept.values():
                self._send(tensor)
            return dict(values), kept
        values, shapes = json.loads(said.numpy().tobytes())
        received = {name: torch.empty(shape, dtype=getattr(torch, dtype)) for name, dtype, shape in shapes}
        for tensor in received.values():
            self._send(tensor)
        return dict(values), received

    def _send(self, tensor: torch.Tensor) -> None:
        """Send a tensor of the first process, or receive it in place, as bytes."""
        if tensor.numel():
            as_bytes = tensor.view(-1).view(torch.uint8)
            self._do(lambda: distributed.broadcast(as_bytes, 0))

    def _do(self, collective: Any) -> None:
        if self._is_lost:
            raise Lost(RuntimeError("before"))
        try:
            collective()
        except RuntimeError as error:
            self._is_lost = True
            raise Lost(error) from error

    @contextmanager
    def joined(self, kind: str, config: Any, interactions: TrainingSet) -> Iterator[None]:
        """Have the others train along. After an error that they do not meet too, nothing more is trained together. Raises: Lost."""
        columns = {name: getattr(interactions, name) for name in COLUMNS}
        shape = {"n_items": interactions.n_items, "n_users": interactions.n_users}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(column)) for name, column in columns.items() if column is not None}
        self.share({"kind": kind, "config": asdict(config), **shape}, tensors)
        try:
            yield
        except CoreError:
            raise
        except BaseException:
            self._is_lost = True
            raise

    def attend(self) -> None:
        """Train along with the first process until it needs nobody any more. Raises: Lost."""
        while (order := self.share({}, {}))[0]["kind"] is not None:
            values, tensors = order
            kind = MODELS[values["kind"]]
            columns = {name: tensors[name].numpy() if name in tensors else None for name in COLUMNS}
            names = [str(item) for item in range(values["n_items"])]
            data = TrainingSet(**columns, item_ids=names, n_users=values["n_users"])  # type: ignore[arg-type]
            assert kind.together is not None
            with suppress(CoreError):  # the first process meets it too
                kind.together(data, kind.config(**values["config"]), ranks=self)

    def dismiss(self) -> None:
        """Need nobody any more."""
        if not self._is_lost:
            self.share({"kind": None}, {})


@contextmanager
def together(processes: int) -> Iterator[Ranks]:
    """Start the others of so many processes on this machine, which end with the context. Raises: Lost."""
    if processes == 1:
        yield ALONE
        return
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="recsys-ranks-"))
        store = f"file://{folder}/store"
        for number in range(1, processes):
            arguments = [sys.executable, "-m", "workers.trainer.attend", store, str(number), str(processes), str(torch.get_num_threads())]
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=2, env={**os.environ, **LOOPBACK})
            stack.callback(_end, process)
        os.environ.update(LOOPBACK)
        with group(store, 0, processes) as ranks:
            yield ranks
            ranks.dismiss()


LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}


def backend() -> str:
    """Return the backends of torch.distributed for numbers on the processor, and on graphics cards if there are some."""
    has_cards = torch.cuda.is_available() and distributed.is_nccl_available()
    return "cpu:gloo,cuda:nccl" if has_cards else "gloo"


@contextmanager
def group(store: str, number: int, count: int) -> Iterator[Group]:
    """Join a process group at a URL that torch.distributed knows. Raises: Lost."""
    try:
        distributed.init_process_group(backend(), init_method=store, rank=number, world_size=count, timeout=LONGEST_WAIT)
    except RuntimeError as error:
        raise Lost(error) from error
    try:
        yield Group()
    finally:
        with suppress(RuntimeError):
            distributed.destroy_process_group()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait for a process that was dismissed, or end one that was not."""
    try:
        process.wait(END_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""The faults of one worker: where it dies, and how its clock jumps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

POINTS = (
    "before_apply",
    "between_groups",
    "after_apply",
    "between_partitions",
    "after_users",
    "after_publish",
    "before_commit",
    "after_commit",
)
"""Steps of a batch in their order: item groups, users and watermark, lists, offsets. `between_…`: the first half is done."""


@dataclass(frozen=True)
class Crash:
    """SIGKILL at the `nth` time (from 1) that the worker passes this point; `stops`: SIGSTOP, until the harness sends SIGCONT."""

    point: str
    nth: int
    stops: bool = False

    def __post_init__(self) -> None:
        if self.point not in POINTS:
            raise ValueError(f"{self.point} is not a point of a batch")


@dataclass(frozen=True)
class FaultPlan:
    """`jumps`: (seconds of life, seconds by which the wall clock is wrong from then on). `duplicate_chunk` is a number of offsets below
    what settings allow, so that a short log has several chunks."""

    crash: Crash | None = None
    jumps: tuple[tuple[float, float], ...] = ()
    duplicate_chunk: int | None = None

    @classmethod
    def of(cls, fields: dict[str, Any]) -> FaultPlan:
        """From its JSON."""
        crash = fields["crash"]
        jumps = tuple((after_s, by_s) for after_s, by_s in fields["jumps"])
        return cls(None if crash is None else Crash(**crash), jumps, fields["duplicate_chunk"])

"""The device that a list is read on, as a number that trees compare: its place among the devices that the ranker was trained with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recsys.errors import ModelError

NAME = "device"
"""The name of the device in an event's `context`, and in a request's."""
MAX_DEVICES = 8
MAX_NAME = 256
OTHER = 0
"""The number of a device that the ranker was not trained with, and of none."""


def number_of(situation: Mapping[str, object], devices: Sequence[str]) -> int:
    """Return the place of the situation's device among the `devices`, from 1; 0 if it is none of them, or not known."""
    device = situation.get(NAME)
    return devices.index(device) + 1 if isinstance(device, str) and device in devices else OTHER


def check_devices(devices: object) -> tuple[str, ...]:
    """Return the devices of a stored ranker. Raises: ModelError for what cannot be their names."""
    if not isinstance(devices, list | tuple) or not all(isinstance(one, str) and 0 < len(one) <= MAX_NAME for one in devices):
        raise ModelError(f"ranker option devices: it must be a list of names of 1 to {MAX_NAME} characters")
    if len(devices) > MAX_DEVICES or len(set(devices)) != len(devices):
        raise ModelError(f"ranker option devices: needs at most {MAX_DEVICES} different names")
    return tuple(devices)

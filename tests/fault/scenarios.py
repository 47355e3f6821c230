"""All scenarios: importing this registers them."""

from __future__ import annotations

import importlib
import importlib.util

from tests.fault import (  # noqa: F401
    scenarios_brokers,
    scenarios_cluster,
    scenarios_groups,
    scenarios_kills,
    scenarios_merges,
    scenarios_rebuild,
    scenarios_redis,
)

for _module in ("tests.fault.trainer_scenarios",):
    if importlib.util.find_spec(_module) is not None:
        importlib.import_module(_module)

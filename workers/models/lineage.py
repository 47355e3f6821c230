"""The versions that a stored version descends from: which events each has seen, with which options, code and seed, and how it did; and what
its kind adds to the list."""

from __future__ import annotations

from typing import Any

from recsys.lists.recipe import Recipe
from workers.errors import WorkerError
from workers.models.manifest import Manifest
from workers.models.store import ModelStore

MAX_ANCESTORS = 100
CHALLENGER = "challenger"


def lineage(store: ModelStore, manifest: Manifest) -> list[dict[str, Any]]:
    """Return the version and its parents, newest first, as JSON can hold them: at most `MAX_ANCESTORS`.

    A parent that was removed or cannot be read ends the list, with its `problem`. `config` of a parent holds what differs from its child.
    """
    found, child = [_entry(manifest, dict(manifest.config))], manifest
    while child.parent is not None and len(found) < MAX_ANCESTORS:
        try:
            parent, _ = store.manifest(child.kind, child.parent)
        except WorkerError as error:
            found.append({"version": child.parent, "problem": str(error)})
            break
        config = {name: value for name, value in parent.config.items() if child.config.get(name) != value}
        found.append(_entry(parent, config))
        child = parent
    return found


def measured_gain(store: ModelStore, kind: str) -> dict[str, Any] | None:
    """Return what a kind of model adds to the list: as the newest recipe that was measured with it says, and which one that is.

    None where `trainer.least_gain` is off, or no recipe was measured with the kind.
    """
    for version in reversed(store.versions(Recipe.kind)):
        try:
            gain = store.manifest(Recipe.kind, version)[0].gains.get(kind)
        except WorkerError:  # another recipe may be readable
            continue
        if gain is not None:
            return {"recipe": version, **gain.model_dump()}
    return None


def _entry(manifest: Manifest, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": manifest.version,
        "parent": manifest.parent,
        "trained_ts_ms": manifest.trained_ts_ms,
        "trained_on": manifest.trained_on.model_dump(mode="json"),
        "config": config,
        "seed": manifest.seed,
        "code_version": manifest.code_version,
        "metrics": manifest.metrics.get(CHALLENGER, {}),
        "decision": manifest.decision,
    }

"""Loads plugins: installed packages with an entry point in the group `recsys.plugins`, a function that adds parts to the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from recsys.lists.filters import Filter
from recsys.lists.registry import NameTaken, Parts, Registry, built_in
from recsys.lists.sources.base import Source
from recsys.models.registry import MODELS, PROFILE_MODELS
from workers.errors import Fatal, describe

GROUP = "recsys.plugins"


def load_plugins() -> Registry:
    """Return the built-in parts and those of all installed plugins. Raises Fatal, naming the distribution, for a plugin that fails to load,
    takes a name that is in use, or registers something else than parts of lists."""
    registry = built_in()
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: (_distribution(entry), entry.name)):
        _add(entry, registry)
    return registry


def _add(entry: EntryPoint, registry: Registry) -> None:
    where, remedy = f"plugin {entry.name!r} of {_distribution(entry)}", f"repair it or uninstall {_distribution(entry)}"
    before = {id(parts): set(parts) for parts, _ in _checks(registry)}
    try:
        register: Callable[[Registry], object] = entry.load()
        register(registry)
    except NameTaken as error:
        raise Fatal(f"{where}: {error}: rename it there or uninstall {_distribution(entry)}") from None
    except Exception as error:  # code of others: whatever it raises
        raise Fatal(f"{where} does not load: {describe(error)}: {remedy}") from error
    if len(registry.rankers) > 2:
        raise Fatal(f"{where}: another plugin's ranker is registered already, and only one can rank: uninstall one of the two")
    for parts, problem in _checks(registry):
        for name in parts:
            if name in before[id(parts)]:
                continue
            try:
                found = problem(name, parts.make_one(name))
            except Exception as error:
                found = f"{name!r} cannot be made: {describe(error)}"
            if found is not None:
                raise Fatal(f"{where}: {found}: {remedy}")


def _distribution(entry: EntryPoint) -> str:
    return "an unknown distribution" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


def _checks(registry: Registry) -> Iterator[tuple[Parts[Any], Callable[[str, Any], str | None]]]:
    yield registry.sources, _source_problem
    yield registry.filters, lambda name, made: None if isinstance(made, Filter) else f"{name!r} is no recsys.lists.filters.Filter"
    yield registry.rankers, lambda name, made: None if hasattr(made, "score") and hasattr(made, "parts") else f"{name!r} is no Ranker"
    yield registry.policies, lambda name, made: None if callable(made) else f"{name!r} is no PolicyStage: it cannot be called"


def _source_problem(name: str, made: object) -> str | None:
    if not isinstance(made, Source):
        return f"{name!r} is no recsys.lists.sources.base.Source"
    if made.name != name:
        return f"the source registered as {name!r} calls itself {made.name!r}"
    if name in MODELS or name in PROFILE_MODELS:
        return f"a source cannot be named {name!r}, the kind of a model"
    return None

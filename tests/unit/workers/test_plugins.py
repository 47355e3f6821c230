"""A user's plugin, installed as a distribution: its parts make lists in small and in large catalogues, and a broken one is named."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recsys.catalogue.items import ItemContent
from recsys.engine import Engine, EngineConfig, Lists
from recsys.lists.registry import built_in
from tests.builders import batch_of, learn
from workers.errors import Fatal, SettingsError
from workers.lists.engine_config import check_weights, engine_config
from workers.plugins import load_plugins
from workers.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "tests" / "plugins_example" / "example_plugin.py"
NOW_S = 1_700_000_000
WEIGHTS = {"cooccurrence": 1.0, "content": 1.4, "ials": 0.2, "sasrec": 0.3, "trending": 0.02, "new": 0.02, "evergreen": 0.5}
N_ITEMS = 120
Install = Callable[..., None]


def documented() -> str:
    """The code of the how-to, as one module."""
    return "\n\n".join(re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text("utf-8"), re.S))


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a distribution of one module on the path."""

    def installed(name: str, code: str, entry: str = "register") -> None:
        folder, module = tmp_path / name, name.replace("-", "_")
        metadata = folder / f"{module}-1.0.dist-info"
        metadata.mkdir(parents=True)
        (folder / f"{module}.py").write_text(code, "utf-8")
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (metadata / "entry_points.txt").write_text(f"[recsys.plugins]\nexample = {module}:{entry}\n")
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.delitem(sys.modules, module, raising=False)

    return installed


def settings_with(**lists: object) -> Settings:
    return load_settings(lists={"weights": WEIGHTS, **lists})


def engine_of(config: EngineConfig) -> Engine:
    """User `v` chose items 0 to 59, `u` items 60 to 64, and three others 50 and 52. Every third item is new, some are very new."""
    engine = Engine(config)
    engine.ensure_items(N_ITEMS)
    engine.neighbours.hold_all()
    for number in range(N_ITEMS):
        age_s = 600 if number % 10 == 9 else 7_200 if number % 3 == 0 else 100 * 86_400
        engine.describe_item(number, ItemContent([f"c{number % 5}"], published_s=NOW_S - age_s))
    engine.users.load(dict.fromkeys(("v", "u", "w", "x", "y", "new")))
    for user, items in (("v", range(60)), ("u", range(60, 65)), ("w", [50, 52]), ("x", [52]), ("y", [52])):
        numbers = list(items)
        batch = batch_of(
            [engine.users.slot(user) or 0], [len(numbers)], numbers, [NOW_S + at for at in range(len(numbers))], [32] * len(numbers)
        )
        learn(engine, batch)
    return engine


def lists_of(config: EngineConfig, users: tuple[str, ...] = ("u", "new")) -> tuple[Engine, Lists]:
    engine = engine_of(config)
    return engine, engine.recommend(np.array([engine.users.slot(user) for user in users], np.int64), {}, engine.shared(NOW_S))


def listed(lists: Lists, row: int) -> list[int]:
    return lists.items[row][np.isfinite(lists.scores[row])].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("code", [EXAMPLE.read_text("utf-8"), documented()], ids=["package", "how-to"])
@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_a_plugin_s_source_filter_ranker_and_policy_stage_make_the_lists(code: str, exact_items: int, install: Install) -> None:
    install("example-plugin", code)
    engine, lists = lists_of(engine_config(settings_with(size=15, exact_items=exact_items)))
    assert engine.is_large == (exact_items == 10)
    _, plain = lists_of(replace(engine.config, registry=built_in()))
    for row in range(2):
        shown = listed(lists, row)
        assert len(shown) == len(set(shown)) == 15
        # source: what all chose has a part of the score, under its own name
        evergreen = dict(zip(shown, lists.contributions["evergreen"][row].tolist(), strict=False))
        assert list(lists.contributions) == ["cooccurrence", "content", "trending", "new", "evergreen"]
        chosen = {item for item in shown if engine.popularity.all_time[item] > 0}
        assert chosen and {item for item in shown if evergreen[item] > 0} == chosen
        # filter, shared: nobody sees what was published within the hour
        assert not any(item % 10 == 9 for item in shown) and any(item % 10 == 9 for item in listed(plain, row))
        # policy: at most two that were published within a day
        assert sum(item % 3 == 0 for item in shown) <= 2 < sum(item % 3 == 0 for item in listed(plain, row))
        # ranker: square roots of the parts, best first
        parts = np.sum([part[row] for part in lists.contributions.values()], axis=0)
        np.testing.assert_allclose(parts, lists.scores[row], rtol=1e-5)
        assert sorted(lists.scores[row].tolist(), reverse=True) == lists.scores[row].tolist()
    assert all(engine.popularity.all_time[item] > 0 for item in listed(lists, 1)), "filter, personal: new users see what others chose"
    assert "evergreen" not in plain.contributions


@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_a_plugin_s_ranker_scores_by_the_roots_of_the_parts(exact_items: int, install: Install) -> None:
    install(
        "recsys-ranker",
        "import numpy as np\n" + _class("Balanced") + "\ndef register(registry):\n    registry.rankers.add('b', Balanced)\n",
    )
    config = engine_config(load_settings(lists={"size": N_ITEMS, "exact_items": exact_items}))
    _, ranked = lists_of(config)
    _, summed = lists_of(replace(config, registry=built_in()))
    for row in range(2):
        shown = listed(ranked, row)
        parts = np.stack([part[row, : len(shown)] for part in ranked.contributions.values()])
        np.testing.assert_allclose(ranked.scores[row, : len(shown)], parts.sum(axis=0), rtol=1e-5)
        for name, part in zip(ranked.contributions, parts, strict=True):  # the best candidate has the root of the source's weight
            assert part.max() == pytest.approx(0 if not part.any() else config.source_weights[name] ** 0.5, rel=1e-5)
        assert parts.any(axis=1).sum() >= 2 and shown != listed(summed, row)


def test_a_weight_of_0_switches_a_plugin_s_source_off(install: Install) -> None:
    install("example-plugin", documented())
    config = engine_config(load_settings(lists={"weights": WEIGHTS | {"evergreen": 0.0}}))
    assert "evergreen" not in lists_of(config)[1].contributions


def test_exploration_draws_from_what_a_plugin_s_stage_leaves(install: Install) -> None:
    install("example-plugin", documented())
    for exact_items in (10_000, 10):
        _, lists = lists_of(engine_config(settings_with(size=12, exploration_slots=4, exact_items=exact_items)))
        assert (lists.propensities[:, :8] == 1).all() and (lists.propensities[:, 8:] < 1).all()
        assert all(sum(item % 3 == 0 for item in listed(lists, row)) <= 2 for row in range(2))


def test_the_how_to_shows_the_example_and_the_example_is_the_how_to() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text("utf-8"), re.S)
    example = EXAMPLE.read_text("utf-8")
    assert len(blocks) == 6 and all(block.strip() in example for block in blocks)
    rest = example
    for block in blocks:
        rest = rest.replace(block.strip(), "")
    assert rest.strip().startswith('"""') and rest.strip().endswith('"""'), "nothing but its docstring is left"


def test_a_list_is_shorter_where_a_plugin_leaves_nothing_else(install: Install) -> None:
    code = "import numpy as np\nfrom recsys.lists.filters import Filter\nDAY_S = 86_400\n" + _class("FewNew")
    install("recsys-few", code + "\ndef register(registry):\n    registry.policies.add('few_new', FewNew)\n")
    for exact_items in (10_000, 10):
        for exploration_slots in (0, 3):
            options = {"size": N_ITEMS, "exact_items": exact_items, "exploration_slots": exploration_slots}
            _, lists = lists_of(engine_config(load_settings(lists=options)))
            for row in range(2):
                shown = listed(lists, row)
                assert sum(item % 3 == 0 or item % 10 == 9 for item in shown) == 2 and min(shown) >= 0
                assert np.isfinite(lists.scores[row][: len(shown)]).all() and (lists.items[row][len(shown) :] == -1).all()
                assert (lists.because[row][len(shown) :] == -1).all()


BROKEN = {
    "import nowhere_at_all\n": "plugin 'example' of recsys-broken 1.0 does not load: ModuleNotFoundError: No module named 'nowhere_at_all'",
    "": "plugin 'example' of recsys-broken 1.0 does not load: AttributeError",
    "def register(registry):\n    raise ValueError('out of order')\n": "does not load: ValueError: out of order",
    "def register(registry):\n    registry.sources.add('content', object)\n": "a source named 'content': rename it there or uninstall",
    "def register(registry):\n    registry.sources.add('mine', object)\n": "'mine' is no recsys.lists.sources.base.Source",
    "def register(registry):\n    registry.filters.add('mine', object)\n": "'mine' is no recsys.lists.filters.Filter",
    "def register(registry):\n    registry.rankers.add('mine', object)\n": "'mine' is no Ranker",
    "def register(registry):\n    registry.policies.add('mine', object)\n": "'mine' is no PolicyStage",
    "def register(registry):\n    registry.policies.add('mine', lambda: 1 / 0)\n": "'mine' cannot be made: ZeroDivisionError",
}


@pytest.mark.parametrize("code", BROKEN, ids=[str(number) for number in range(len(BROKEN))])
def test_a_plugin_that_does_not_load_is_named_with_its_distribution_and_the_remedy(code: str, install: Install) -> None:
    install("recsys-broken", code)
    with pytest.raises(Fatal) as failure:
        load_plugins()
    message = str(failure.value)
    assert BROKEN[code] in message and "recsys-broken 1.0" in message and "uninstall" in message and "\n" not in message


def _class(name: str) -> str:
    """One class of the example."""
    found = re.search(rf"^class {name}.*?(?=^(?:class|def) )", EXAMPLE.read_text("utf-8"), re.S | re.M)
    assert found
    return found[0]


@pytest.mark.parametrize(
    ("registered", "own", "expected"), [("ials", "ials", "the kind of a model"), ("mine", "evergreen", "calls itself 'evergreen'")]
)
def test_a_source_named_like_a_model_s_kind_or_unlike_its_registration_is_refused(
    registered: str, own: str, expected: str, install: Install
) -> None:
    source = "import numpy as np\nfrom recsys.lists.sources.base import Source\n" + _class("Evergreen").replace('"evergreen"', repr(own))
    install("recsys-named", source + f"\ndef register(registry):\n    registry.sources.add({registered!r}, Evergreen)\n")
    with pytest.raises(Fatal, match=expected):
        load_plugins()


def test_two_plugins_with_a_name_are_refused(install: Install) -> None:
    install("recsys-one", documented())
    install("recsys-two", "def register(registry):\n    registry.filters.add('curfew', list)\n")
    with pytest.raises(Fatal, match=r"of recsys-two 1\.0: there is already a filter named 'curfew': rename it"):
        load_plugins()


def test_two_rankers_are_refused(install: Install) -> None:
    install("recsys-one", documented())
    install(
        "recsys-two",
        "import numpy as np\n" + _class("Balanced") + "\ndef register(registry):\n    registry.rankers.add('other', Balanced)\n",
    )
    with pytest.raises(Fatal, match=r"of recsys-two 1\.0: another plugin's ranker is registered already"):
        load_plugins()


def test_a_plugin_s_source_without_a_weight_is_an_error_at_start(install: Install) -> None:
    install("example-plugin", documented())
    with pytest.raises(SettingsError, match=r"^setting lists.weights: evergreen, a plugin's source, has no weight: add one"):
        engine_config(load_settings())


@pytest.mark.parametrize("kinds", [["ials", "popular"], ["popular"]])
def test_a_kind_that_is_trained_without_a_weight_is_an_error_at_start(kinds: list[str]) -> None:
    with pytest.raises(
        SettingsError, match=r"^setting lists.weights: trainer.kinds names popular, which has no weight: add a weight for it"
    ):
        engine_config(load_settings(trainer={"kinds": kinds}))
    weights = {"cooccurrence": 1.0, "ials": 0.2, "popular": 0.0}
    check_weights(load_settings(trainer={"kinds": kinds}, lists={"weights": weights}), built_in())
    check_weights(load_settings(trainer={"kinds": []}, lists={"weights": {"cooccurrence": 1.0}}), built_in())


def test_without_plugins_the_parts_are_the_built_in_ones() -> None:
    found = load_plugins()
    for parts, own in ((found.sources, built_in().sources), (found.filters, built_in().filters), (found.rankers, built_in().rankers)):
        assert list(parts) == list(own)  # type: ignore[call-overload]


@pytest.mark.parametrize("exact_items", [10_000, 10], ids=["small", "large"])
def test_rules_hold_on_lists_that_a_plugin_s_parts_make(exact_items: int, install: Install) -> None:
    install("example-plugin", EXAMPLE.read_text("utf-8"))
    rules = [
        {"name": "off", "when": '"c1" in item.categories', "action": "deny"},
        {"name": "up", "when": '"c2" in item.categories', "action": "boost", "amount": 50.0},
        {"name": "shelf", "when": '"c3" in item.categories && item.age_days > 1.0', "action": "pin", "places": [2]},
    ]
    config = engine_config(settings_with(size=10, exact_items=exact_items, rules=rules))
    _, lists = lists_of(config)
    shown = listed(lists, 0)
    assert len(shown) == 10 and not any(item % 5 == 1 or item % 10 == 9 for item in shown)
    assert shown[1] % 5 == 3 and shown[0] % 5 == 2 and sum(item % 3 == 0 for item in shown) <= 2
    parts = np.sum([part[0] for part in lists.contributions.values()], axis=0)
    np.testing.assert_allclose(parts, lists.scores[0], rtol=1e-5)
    assert lists.contributions["rules"][0].tolist() == [50.0 if item % 5 == 2 else 0.0 for item in shown]


def test_a_plugin_s_source_must_not_have_the_name_of_the_rules_part(install: Install) -> None:
    code = EXAMPLE.read_text("utf-8").replace('"evergreen"', '"rules"')
    install("example-plugin", code)
    rule = {"name": "off", "when": "has(item.a)", "action": "deny"}
    with pytest.raises(SettingsError, match=r"setting lists\.rules: a plugin's source is named rules"):
        engine_config(load_settings(lists={"weights": WEIGHTS | {"rules": 1.0}, "rules": [rule]}))

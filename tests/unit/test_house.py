"""How the code is laid out: which package may import which, how long modules and functions are, how docstrings begin."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORKERS = (
    {"cli", "health", "__main__"},
    {"demo"},
    {"web"},
    {"operations"},
    {"stream", "trainer"},
    {"lists", "models", "producer", "local", "client"},
    {"bootstrap", "plugins"},
    {"redis"},
    {"state"},
    {"kafka"},
    {"runtime"},
    {"settings", "storage", "retry"},
    {"list_settings"},
    {
        "policy_settings",
        "row_settings",
        "rule_settings",
        "content_settings",
        "gateway_settings",
        "dashboard_settings",
        "shown_settings",
        "related_settings",
        "tuning_settings",
        "watch_settings",
        "reason_templates",
    },
    {"section"},
    {"errors"},
)
"""Packages and modules of `workers`, from the one that may import all others to those that import none of them."""
RECSYS = (
    {"ranker"},
    {"recipe"},
    {"related"},
    {"engine"},
    {"lists"},
    {"evaluation"},
    {"models"},
    {"rules"},
    {"catalogue"},
    {"index"},
    {"state", "cooccurrence"},
    {"arithmetic_kernel"},
    {"jit", "errors"},
)
WITHIN_ONE_ROOM = {
    ("recsys", "state", "cooccurrence"),
    ("recsys", "cooccurrence", "state"),
    ("workers", "producer", "client"),
    ("workers", "client", "lists"),
}
"""Pairs of one rank that may import each other."""
CONSTRUCTORS = {
    "KafkaConsumer": {"kafka/clients.py"},
    "AIOKafkaConsumer": {"kafka/clients.py"},
    "KafkaProducer": {"kafka/clients.py"},
    "AIOKafkaProducer": {"kafka/clients.py"},
    "KafkaAdminClient": {"kafka/clients.py"},
    "Redis": {"redis/connection.py", "bootstrap.py"},
    "RedisCluster": {"redis/connection.py"},
    "Link": {"redis/opened_store.py", "bootstrap.py"},
    "RedisStore": {"bootstrap.py"},
}
"""Clients and stores ▸ the modules of `workers` that may make one; all others call these."""
MAX_LINES, MAX_FUNCTION_LINES = 400, 60
FORBIDDEN_STARTS = ("What ", "Whether ", "How ")


def modules(*packages: str) -> list[Path]:
    return sorted(path for package in packages for path in (ROOT / package).rglob("*.py"))


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Return all nodes of a module."""
    return tuple(ast.walk(ast.parse(path.read_text("utf-8"))))


@pytest.fixture(autouse=True, scope="module")
def parsed_modules_are_forgotten() -> Iterator[None]:
    """Free a million nodes afterwards: every later garbage collection of this process would take a second longer."""
    yield
    nodes.cache_clear()


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a module imports, wherever in it."""
    for node in nodes(path):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for name in node.names:
                yield f"{node.module}.{name.name}"
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def wrong_imports(package: str, ranks: tuple[set[str], ...]) -> list[str]:
    rank_of = {room: rank for rank, rooms in enumerate(ranks) for room in rooms}
    found = []
    for path in modules(package):
        parts = path.relative_to(ROOT / package).with_suffix("").parts
        if parts == ("__init__",):
            continue
        room = parts[0]
        assert room in rank_of, f"{path}: tell this test where {room} belongs"
        for name in imported(path):
            if not name.startswith(f"{package}."):
                continue
            other = name.split(".")[1]
            if other != room and rank_of[other] <= rank_of[room] and (package, room, other) not in WITHIN_ONE_ROOM:
                found.append(f"{path.relative_to(ROOT)}: {name}")
    return found


@pytest.mark.parametrize(("package", "ranks"), [("workers", WORKERS), ("recsys", RECSYS)], ids=["workers", "recsys"])
def test_imports_go_one_way(package: str, ranks: tuple[set[str], ...]) -> None:
    assert wrong_imports(package, ranks) == []


def test_the_core_and_the_wire_import_nothing_of_the_shell_and_the_shell_no_tests() -> None:
    allowed = {"recsys": {"recsys"}, "schemas": {"schemas"}, "workers": {"workers", "recsys", "schemas"}}
    own = {"workers", "recsys", "schemas", "benchmarks", "tests"}
    for package, may in allowed.items():
        for path in modules(package):
            assert {name.split(".")[0] for name in imported(path)} & own <= may, path


def test_clients_and_stores_are_made_in_one_place() -> None:
    """A call of the class, or of one of its class methods (`Redis.from_url`)."""
    made: dict[str, set[str]] = {name: set() for name in CONSTRUCTORS}
    for path in modules("workers"):
        for node in nodes(path):
            if isinstance(node, ast.Call):
                for name in made.keys() & set(ast.unparse(node.func).split(".")):
                    made[name].add(str(path.relative_to(ROOT / "workers")))
    assert made == CONSTRUCTORS


def test_no_module_imports_itself_round_a_corner() -> None:
    """Imports between modules have no cycle, those inside functions too."""
    graph = {}
    for path in modules("workers", "recsys", "schemas"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        graph[name] = {"names": list(imported(path))}
    edges = {
        name: {target for full in found["names"] for target in (full, full.rpartition(".")[0]) if target in graph and target != name}
        for name, found in graph.items()
    }
    edges = {name: {t for t in targets if not any(o.startswith(f"{t}.") for o in targets)} for name, targets in edges.items()}
    done: set[str] = set()

    def walk(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " ▸ ".join((*above[above.index(name) :], name))
        if name not in done:
            for target in sorted(edges[name]):
                walk(target, (*above, name))
            done.add(name)

    for name in sorted(edges):
        walk(name, ())


def test_modules_and_functions_are_short() -> None:
    long = []
    for path in modules("workers", "recsys", "schemas"):
        text = path.read_text("utf-8")
        if (n_lines := len(text.splitlines())) > MAX_LINES:
            long.append(f"{path.relative_to(ROOT)} has {n_lines} lines")
        for node in nodes(path):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if n_lines > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}: {node.name} has {n_lines} lines")
    assert long == []


def test_docstrings_begin_with_what_the_code_does_and_modules_need_no_banners() -> None:
    wrong = []
    for path in modules("workers", "recsys", "schemas"):
        text = path.read_text("utf-8")
        wrong += [f"{path.relative_to(ROOT)}: {line.strip()[:40]}" for line in text.splitlines() if line.lstrip().startswith("# --")]
        for node in nodes(path):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node)
                if docstring and docstring.startswith(FORBIDDEN_STARTS):
                    wrong.append(f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}: {docstring[:40]}")
    assert wrong == []

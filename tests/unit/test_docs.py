"""README, docs and changelog name only what exists (paths, modules, settings, commands, options, tests, metrics, links), in plain words."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.unit.test_house import RECSYS, WORKERS
from workers.cli.app import whole_tree
from workers.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PACKAGES = ("recsys", "schemas", "workers", "benchmarks", "tests")
FOLDERS = (*PACKAGES, "docs", "deploy")
NAMES_WITH_DOTS = {"recsys.toml", "recsys.plugins"}
"""Names that begin like a module of a package and are none."""
FORBIDDEN = ("anew", "whoever", "so many", "owed", "owes", "told", "unheard", "meanwhile", "drunk", "mend", "mended", "fell over")
"""Words that `docs` does without: they say less than the field's own."""
STATED = (
    ("docs/architecture.md", r"From (\S+) users\s+on", "SHARED_FROM"),
    ("docs/adr/0002-packed-rows.md", r"longer than (\S+) times its compacted\s+length", "COMPACT_RATIO"),
    ("docs/adr/0002-packed-rows.md", r"(\S+) rows at a\s+time", "COMPACT_ROWS"),
    ("docs/adr/0002-packed-rows.md", r"visible after (\S+) times", "OLD_EPOCHS_STALENESS"),
    ("docs/adr/0006-large-catalogues.md", r"exact_items` \((\S+)\)", "EXACT_ITEMS"),
    ("docs/adr/0006-large-catalogues.md", r"lists of (\S+) on\s+average", "_LIST_SIZE"),
    ("docs/adr/0006-large-catalogues.md", r"positive squares in a sample of (\S+)", "SAMPLE"),
    ("docs/adr/0006-large-catalogues.md", r"keeps its (\S+) most chosen", "HEADS"),
    ("docs/guide.md", r"with the user's (\S+) liked items before it", "PAIR_WEIGHTS"),
    ("docs/reliability.md", r"newest (\S+) such users", "MAX_USERS"),
    ("docs/reliability.md", r"more than (\S+) headers", "MAX_HEADERS"),
    ("docs/reliability.md", r"more than (\S+) records a\s+second", "REFILL_PER_S"),
    ("docs/security.md", r"checks every (\S+) seconds", "ACCESS_S"),
)
"""Figures that documents state, each with the constant of the code that it is."""
WORDS = {"three": 3.0, "thirty": 30.0}
FENCE = re.compile(r"^```.*?^```\s*$", re.M | re.S)
CODE = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Document:
    """A Markdown file: its whole text, its code (fenced lines and spans) and its prose."""

    path: Path
    text: str

    @property
    def code(self) -> list[str]:
        fenced = [line for block in FENCE.findall(self.text) for line in re.sub(r"\\\n\s*", " ", block).splitlines()[1:-1]]
        return [*fenced, *CODE.findall(FENCE.sub("", self.text))]

    @property
    def prose(self) -> str:
        return re.sub(r"\]\([^)]*\)", "]", CODE.sub("", FENCE.sub("", self.text)))


@cache
def documents() -> tuple[Document, ...]:
    return tuple(Document(path, path.read_text("utf-8")) for path in DOCUMENTS)


@cache
def source(*folders: str) -> str:
    """All Python files of some folders but this one, which names what does not exist."""
    files = (path for folder in folders for path in sorted((ROOT / folder).rglob("*.py")) if path != Path(__file__))
    return "\n".join(path.read_text("utf-8") for path in files)


def wrong(find: Callable[[Document], Iterator[str]]) -> list[str]:
    """All findings, each with the document it is in."""
    return [f"{document.path.relative_to(ROOT)}: {finding}" for document in documents() for finding in find(document)]


def heading_anchors(text: str) -> set[str]:
    """Anchors of the headings of a Markdown text, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M)
    return {re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", title).lower()).replace(" ", "-") for title in titles}


def broken_links(document: Document) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", document.text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (document.path.parent / name).resolve() if name else document.path
        if not file.exists():
            yield target
        elif anchor and anchor not in heading_anchors(file.read_text("utf-8")):
            yield f"{target}: no such heading"


def missing_paths(document: Document) -> Iterator[str]:
    for code in document.code:
        for path in re.findall(rf"(?<![\w/.-])(?:{'|'.join(FOLDERS)})/[\w./*{{}},-]*", code):
            name = path.rstrip(".,/")
            braces = re.search(r"\{([^}]*)\}", name)
            for each in [name.replace(braces[0], part) for part in braces[1].split(",")] if braces else [name]:
                if not any(ROOT.glob(each)):
                    yield each
        if (bare := re.fullmatch(r"\w+\.(?:py|lua)", code)) and not any(
            file for folder in PACKAGES for file in (ROOT / folder).rglob(bare[0])
        ):
            yield code


def missing_modules(document: Document) -> Iterator[str]:
    topics = set(Settings.model_construct().topics.model_dump().values())
    for code in document.code:
        for name in re.findall(rf"(?<![\w/.`@-])(?:{'|'.join(PACKAGES)})(?:\.\w+)+(?:-\w+)*", code):
            if name in topics or name in NAMES_WITH_DOTS or name.rpartition(".")[2] in ("md", "py", "svg"):
                continue
            parts = name.split(".")
            while parts and not ((ROOT / Path(*parts)).with_suffix(".py").exists() or (ROOT / Path(*parts)).is_dir()):
                parts.pop()
            found = ROOT / Path(*parts)
            inside = found / "__init__.py" if found.is_dir() else found.with_suffix(".py")
            rest = name.split(".")[len(parts) :]
            if rest and not (inside.exists() and re.search(rf"\b{rest[0]}\b", inside.read_text("utf-8"))):
                yield name


def setting_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Names of all settings and of the sections that hold some: `lists.size`, `lists.diversity`, `lists.diversity.kind`."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}"
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from setting_paths(field.annotation, f"{prefix}{name}.")


def unknown_settings(document: Document) -> Iterator[str]:
    fields = {section: set(field.annotation.model_fields) for section, field in Settings.model_fields.items()}  # type: ignore[union-attr]
    variables = {f"RECSYS_{path}".upper().replace(".", "__") for path in setting_paths(Settings)}
    others = set(re.findall(r"RECSYS_[A-Z_]+[A-Z]", source("workers", "tests", "benchmarks")))
    for file in ("Makefile", "docker-compose.yml", "Dockerfile"):
        others |= set(re.findall(r"RECSYS_[A-Z_]+[A-Z]", (ROOT / file).read_text("utf-8")))
    for name in re.findall(r"RECSYS_[A-Z0-9_]+(?![A-Z0-9_…])", document.text):
        if not (name in variables if "__" in name else name in others):
            yield name
    for code in CODE.findall(FENCE.sub("", document.text)):
        nested = re.fullmatch(r"([a-z]+\.[a-z_]+)\.([a-z_]+)(?: = .*)?", code)
        inside = [path for path in setting_paths(Settings) if nested and path.startswith(f"{nested[1]}.")]
        if nested and inside and f"{nested[1]}.{nested[2]}" not in inside:
            yield code
        named = re.fullmatch(r"([a-z]+)\.([a-z_]+)(?: = .*)?", code)
        if named and named[1] in fields and named[2] not in {"py", *fields[named[1]]}:
            yield code


def _options(command: Any) -> set[str]:
    return {"--help", *(option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts])}


@cache
def _tree() -> Any:
    return whole_tree()


def unknown_commands(document: Document) -> Iterator[str]:
    tree = _tree()
    for code in document.code:
        for words in re.findall(r"(?:^|(?<=[\s/]))(?<!SETUSER )recsys ((?:[\w<>\[\]./=…·-]+ ?)*)", code.partition("#")[0]):
            command = tree
            for word in words.split():
                if word.startswith("-"):
                    if word.partition("=")[0] not in _options(command) and not re.fullmatch(r"-\d*|--", word):
                        yield f"recsys {words}: {word}"
                elif hasattr(command, "commands"):
                    if word not in command.commands:
                        yield f"recsys {words}: {word}"
                        break
                    command = command.commands[word]
        for target in re.findall(r"(?:^|(?<=\s))make ([a-z][a-z-]*)\b", code):
            if not re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.M):
                yield f"make {target}"


def _module_text(module: str) -> str:
    """The source of a module that `python -m` runs, and of the modules of its own package that it imports: they may read its options."""
    found = ROOT / Path(*module.split("."))
    texts = [file.read_text("utf-8") for file in (found / "__main__.py", found.with_suffix(".py")) if file.exists()]
    beside = {name for text in texts for name in re.findall(r"^from (benchmarks\.\w+) import", text, re.M)}
    return "".join([*texts, *((ROOT / Path(*name.split("."))).with_suffix(".py").read_text("utf-8") for name in sorted(beside))])


def unknown_options(document: Document) -> Iterator[str]:
    """Options of `python -m …` that the module does not read."""
    for code in document.code:
        for module, rest in re.findall(r"python -m ((?:benchmarks|workers|schemas)\.[\w.]+)([^|#]*)", code):
            if not (text := _module_text(module)):
                yield f"python -m {module}"
            else:
                known = set(re.findall(r"\"(--[a-z][a-z-]*)\"", text)) | {"--help"}
                yield from (f"python -m {module} {option}" for option in re.findall(r"(?<=\s)--[a-z][a-z-]*", rest) if option not in known)


def unknown_tests(document: Document) -> Iterator[str]:
    defined = set(re.findall(r"def (test_\w+)", source("tests"))) | {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for code in document.code:
        yield from (name for name in re.findall(r"(?<![\w/])test_\w+", code) if name not in defined)


def unknown_metrics(document: Document) -> Iterator[str]:
    known = source("workers")
    for code in document.code:
        yield from (name for name in re.findall(r"\brecsys_[a-z_]+", code) if name not in known)


def odd_words(document: Document) -> Iterator[str]:
    for number, line in enumerate(document.prose.splitlines(), 1):
        yield from (f"{word!r} in “{line.strip()[:80]}” ({number})" for word in FORBIDDEN if re.search(rf"\b{word}\b", line, re.I))


FINDERS = (
    broken_links,
    missing_paths,
    missing_modules,
    unknown_settings,
    unknown_commands,
    unknown_options,
    unknown_tests,
    unknown_metrics,
    odd_words,
)
FAULTS = """# Faults

See [gone](docs/gone.md), [here](#no-such-heading), `recsys/gone.py`, `gone_module.py`, `workers.gone.Thing`, `stream.gone`,
`RECSYS_STREAM__GONE`, `RECSYS_GONE`, `test_that_nobody_wrote`, `recsys_gone_total`, `recsys state gone`, `make gone`.
Whoever reads it is told so.

```sh
recsys lists get --gone u1
python -m benchmarks.gone
python -m benchmarks.soak --gone
```
"""


@pytest.mark.parametrize("find", FINDERS, ids=lambda find: find.__name__)
def test_documents_name_nothing_that_does_not_exist_and_use_plain_words(find: Callable[[Document], Iterator[str]]) -> None:
    assert wrong(find) == []


@pytest.mark.parametrize("find", FINDERS, ids=lambda find: find.__name__)
def test_each_check_finds_the_fault_that_it_is_for(find: Callable[[Document], Iterator[str]]) -> None:
    found = list(find(Document(ROOT / "FAULTS.md", FAULTS)))
    expected = {
        "broken_links": 2,
        "missing_paths": 2,
        "missing_modules": 2,
        "unknown_settings": 3,
        "unknown_commands": 3,
        "unknown_options": 2,
        "unknown_tests": 1,
        "unknown_metrics": 1,
        "odd_words": 2,
    }
    assert len(found) == expected[find.__name__], found


def test_readme_shows_the_figures_that_docs_performance_has() -> None:
    """Every row of README's table of figures is a row of the block that `make bench` writes."""
    rows = re.compile(r"^\| ([^|]+?) \| ([^|]+?) \|", re.M)
    block = (ROOT / "docs" / "performance.md").read_text("utf-8").partition("<!-- figures")[2].partition("<!-- end of figures")[0]
    measured = {what.strip(): value.strip() for what, value in rows.findall(block)}
    shown = rows.findall((ROOT / "README.md").read_text("utf-8").partition("| measured |")[2].partition("\n\n")[0])
    assert len(shown) >= 4
    for what, value in shown[1:]:
        assert measured.get(what) == value, what


def number(text: str) -> float:
    """Return a number as documents write it."""
    return WORDS[text] if text in WORDS else float(text.replace(",", "").replace("−", "-").rstrip("."))


def constants(name: str) -> set[float]:
    """Return the values that the code gives to a constant; of a call the first number in it."""
    values = re.findall(rf"^{name}(?:: [^=\n]+)? = (.+)$", source("recsys", "workers"), re.M)
    return {float(found[0].replace("_", "")) for value in values if (found := re.search(r"\d[\d_]*(?:\.\d+)?", value))}


@pytest.mark.parametrize(("document", "pattern", "name"), STATED, ids=lambda value: value if str(value).isidentifier() else "")
def test_figures_of_the_documents_are_those_of_the_code(document: str, pattern: str, name: str) -> None:
    stated = re.findall(pattern, (ROOT / document).read_text("utf-8"))
    assert stated, f"{document} says no longer: {pattern}"
    assert {number(figure) for figure in stated} <= constants(name), f"{name} is {constants(name)}"


def test_defaults_that_documents_give_in_brackets_are_those_of_the_settings() -> None:
    defaults = Settings.model_construct()
    units = {"": 1, " s": 1, " MiB": 1024 * 1024}
    checked = 0
    for document in documents():
        for section, name, figure, unit in re.findall(r"`([a-z]+)\.([a-z_]+)` \((\d[\d,]*(?:\.\d+)?)( s| MiB|)\)", document.text):
            if section in Settings.model_fields:
                assert getattr(getattr(defaults, section), name) == number(figure) * units[unit], f"{document.path.name}: {section}.{name}"
                checked += 1
    assert checked >= 4


def test_the_guides_tables_give_the_default_weights() -> None:
    text = (ROOT / "docs" / "guide.md").read_text("utf-8")
    defaults = Settings.model_construct()
    of_types = {name: number(weight) for name, weight in re.findall(r"`(\w+)` \| (−?[\d.]+) \|", text.partition("## What a list holds")[0])}
    assert of_types == {name: weight for name, weight in defaults.weights.model_dump().items() if not name.startswith("rating")}
    of_sources = {name: number(weight) for name, weight in re.findall(r"`(\w+)` \| ([\d.]+) \|", text.partition("## What a list holds")[2])}
    assert of_sources == defaults.lists.weights


@pytest.mark.parametrize(("package", "ranks"), [("workers", WORKERS), ("recsys", RECSYS)], ids=["workers", "recsys"])
def test_the_architecture_shows_the_order_of_imports(package: str, ranks: tuple[set[str], ...]) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    (line,) = re.findall(rf"^{package}: +(.+)$", text, re.M)
    shown = [set(rooms.split(", ")) for rooms in line.split(" ▸ ")]
    places = [[rank for rank, rooms in enumerate(ranks) if room in rooms] for rooms in shown for room in sorted(rooms)]
    assert all(len(found) == 1 for found in places), line
    assert places == sorted(places), line
    assert {path.name for path in (ROOT / package).iterdir() if (path / "__init__.py").exists()} <= set().union(*shown), line


def test_contributing_names_every_lane_of_tests() -> None:
    lanes = set(re.findall(r"^((?:test|lint|docs|bench|nightly)[a-z-]*):", (ROOT / "Makefile").read_text("utf-8"), re.M))
    assert len(lanes) >= 8
    assert lanes == set(re.findall(r"`(?:\S+ )?make ([a-z-]+)` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8")))


def test_the_description_of_the_gateway_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    from workers.web.openapi_doc import main

    assert main(["--check"]) == 0, capsys.readouterr().out


def test_the_gateways_page_names_every_route_and_no_other() -> None:
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))["paths"]
    routes = {(method.upper(), re.sub(r"_id\}", "}", path)) for path, methods in paths.items() for method in methods}
    named = re.findall(r"`(GET|POST) (/[^`]*)`", (ROOT / "docs" / "gateway.md").read_text("utf-8"))
    assert set(named) - {("GET", "/openapi.json")} == routes

"""The documentation site: every page is in its menu, and the check of its links finds what leads nowhere."""

from __future__ import annotations

import importlib.util
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def named(nav: Any) -> Iterator[str]:
    """Yield the pages of a menu."""
    for entry in nav:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from named(value)


def test_every_page_is_in_the_menu_once() -> None:
    pages = sorted(named(tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]))
    assert pages == sorted([*(path.name for path in DOCS.glob("*.md")), "adr/index.md"])


def test_every_decision_is_on_the_page_of_decisions() -> None:
    text = (DOCS / "adr" / "index.md").read_text("utf-8")
    for path in DOCS.glob("adr/0*.md"):
        title = path.read_text("utf-8").partition("\n")[0].removeprefix("# ")
        assert f"{title.partition('. ')[0]}. [{title.partition('. ')[2]}]({path.name})" in text, path.name


def problems(site: Path) -> list[str]:
    spec = importlib.util.spec_from_file_location("links", ROOT / ".ci" / "links.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = module.problems(site)
    return found


def test_links_that_lead_nowhere_and_what_is_loaded_from_elsewhere_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "other.html").write_text('<h1 id="here">Here</h1><a href="../index.html#none">x</a>')
    (tmp_path / "index.html").write_text(
        '<a href="folder/other.html#here">x</a><a href="https://example.org">x</a><a href="gone.html">x</a>'
        '<a href="folder/other.html#there">x</a><script src="https://example.org/x.js"></script><link rel="canonical" href="https://example.org">'
        '<img src="no.png"><a href="#">x</a><a href="?q">x</a>'
    )
    assert problems(tmp_path) == [
        "folder/other.html: ../index.html#none: no such heading",
        "index.html: gone.html leads nowhere",
        "index.html: folder/other.html#there: no such heading",
        "index.html: loads https://example.org/x.js",
        "index.html: no.png leads nowhere",
    ]
    assert problems(tmp_path / "folder" / "none") and problems(tmp_path)

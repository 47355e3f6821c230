"""Check a built site: every link and picture inside it leads somewhere, and no page loads anything from elsewhere.

`python .ci/links.py build/site`
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src"}
"""What a browser loads by itself."""
NOT_LOADED = {"canonical", "edit", "next", "prev", "alternate"}


class Page(HTMLParser):
    """Links, what is loaded, and the anchors of one page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attributes}
        self.anchors.update(found[name] for name in ("id", "name") if found.get(name))
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif (name := LOADED.get(tag)) in found and found.get("rel") not in NOT_LOADED:
            self.loads.append(found[str(name)])


def problems(site: Path) -> list[str]:
    """Return a line for each link that leads nowhere, and for each thing that is loaded from elsewhere."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links begin at the root of the site
            continue
        for target in [*page.links, *page.loads]:
            if re.match(r"[a-z][a-z+.-]*:|//", target):
                if target in page.loads:
                    found.append(f"{path.relative_to(site)}: loads {target}")
                continue
            name, anchor = urldefrag(unquote(target.partition("?")[0]))
            file = (path.parent / name).resolve() if name else path
            file = file / "index.html" if file.is_dir() else file
            if not file.exists():
                found.append(f"{path.relative_to(site)}: {target} leads nowhere")
            elif anchor and file in pages and anchor not in pages[file].anchors:
                found.append(f"{path.relative_to(site)}: {target}: no such heading")
    return found if pages else [f"{site}: no pages"]


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]).resolve())
    print("\n".join(wrong) or "every link of the site leads somewhere")
    sys.exit(bool(wrong))

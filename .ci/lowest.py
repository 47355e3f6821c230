"""Writes constraints-lowest.txt: each dependency at the lower bound that pyproject.toml gives it, for `make test-lowest`.

    python .ci/lowest.py            write the bounds; keep the other pins
    python .ci/lowest.py --freeze   also pin the rest, as installed in .venv-lowest
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints-lowest.txt"
EXTRAS = ("embedded", "web", "test")
HEAD = "# The lower bounds of pyproject.toml as exact versions; written by .ci/lowest.py. `make test-lowest` installs them.\n"
REST = "# What they bring with them, as `.ci/lowest.py --freeze` found it.\n"


def bounds() -> dict[str, str]:
    """Return each dependency and its lower bound. Raises SystemExit naming one without a single `>=`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    texts = [*project["dependencies"], *(text for extra in EXTRAS for text in project["optional-dependencies"][extra])]
    found = {}
    for requirement in map(Requirement, texts):
        specifiers = list(requirement.specifier)
        if [specifier.operator for specifier in specifiers] != [">="]:
            raise SystemExit(f"{requirement}: give it one lower bound, `>=`")
        found[canonicalize_name(requirement.name)] = specifiers[0].version
    return found


def pins(text: str) -> dict[str, str]:
    """Return the exact versions that a file of constraints names."""
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def written(others: dict[str, str]) -> str:
    """Return the file's text: the bounds, then the other pins."""
    lowest = bounds()
    rest = {name: version for name, version in others.items() if name not in lowest}
    lines = [[f"{name}=={version}\n" for name, version in sorted(group.items())] for group in (lowest, rest)]
    return HEAD + "".join(lines[0]) + REST + "".join(lines[1])


def frozen() -> dict[str, str]:
    """Return the versions in .venv-lowest, without the project and the tools that install it."""
    python = ROOT / ".venv-lowest" / "bin" / "python"
    listed = subprocess.run([python, "-m", "pip", "freeze", "--exclude-editable"], capture_output=True, text=True, check=True).stdout
    lines = [line for line in listed.splitlines() if "==" in line and not line.startswith(("pip==", "setuptools=="))]
    return pins("\n".join(lines))


def main() -> None:
    """Write the file."""
    known = pins(CONSTRAINTS.read_text("utf-8")) if CONSTRAINTS.exists() else {}
    CONSTRAINTS.write_text(written(frozen() if "--freeze" in sys.argv[1:] else known), "utf-8")


if __name__ == "__main__":
    main()

"""The Redis functions: `workers/redis/*.lua`, put together as one library whose name and function names carry the hash of their source.

So two versions of the workers can share a server during an upgrade, each calling its own functions, and another version is noticed by name.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources
from typing import NamedTuple

LIBRARY = "recsys"
READ_ONLY = ("row_tails", "rows_at")
WRITING = (
    "apply_items",
    "commit_users",
    "number_items", "restore_names", "settle_lists",
    "compact_rows",
    "upsert_items",
    "note_changes",
    "upsert_profile", "note_merge", "forget_before", "await_lists",
    "set_serving",
    "switch_generation",
    "claim_rebuild",
)


class Library(NamedTuple):
    name: str
    version: str
    source: str

    def function(self, name: str) -> str:
        """Server-side name of a function."""
        return f"{LIBRARY}_{name}_{self.version}"


@cache
def load_library() -> Library:
    """The library as FUNCTION LOAD takes it; `version` is the first 10 hex digits of the SHA-256 of its source."""
    folder = resources.files("workers") / "redis"
    names = ("common", *READ_ONLY, *WRITING)
    body = "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)
    version = hashlib.sha256(body.encode()).hexdigest()[:10]
    library = Library(f"{LIBRARY}_{version}", version, "")
    registrations = [
        f"redis.register_function{{function_name='{library.function(name)}', callback={name}, flags={{{flags}}}}}"
        for names_of_kind, flags in ((READ_ONLY, "'no-writes'"), (WRITING, ""))
        for name in names_of_kind
    ]
    return library._replace(source=f"#!lua name={library.name}\n{body}\n" + "\n".join(registrations) + "\n")

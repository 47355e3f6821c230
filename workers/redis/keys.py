"""Key names of the state. Each key carries one hash tag, so that keys which change in one step lie in one cluster slot."""

from __future__ import annotations

import re
from collections.abc import Iterator

from recsys.state.row_names import RowId


def generation_namespace(namespace: str, generation: int) -> str:
    """Return the namespace of one generation of the state. Generation 0 has the plain one: a store that was never rebuilt needs no move."""
    return f"{namespace}.g{generation}" if generation else namespace


def layouts_pattern(namespace: str) -> str:
    """Return the pattern of the keys of layouts of all generations, which may match those of other namespaces too."""
    return f"{{{namespace}*:meta}}:layout"


def generation_of(namespace: str, layout_key: str) -> int | None:
    """Return the generation of a namespace whose layout a key holds; None for the key of another namespace."""
    found = re.fullmatch(rf"\{{{re.escape(namespace)}(?:\.g([1-9]\d*))?:meta\}}:layout", layout_key, re.ASCII)
    return None if found is None else int(found[1] or 0)


class PointerKeys:
    """Keys of the namespace itself, of no generation; one hash tag. A namespace has no colon, so no generation's tag is `active`."""

    def __init__(self, namespace: str) -> None:
        self.generation = f"{{{namespace}:active}}:generation"
        self.rebuild = f"{{{namespace}:active}}:rebuild"

    def __iter__(self) -> Iterator[str]:
        return iter((self.generation, self.rebuild))


class Keys:
    """Key names under one namespace (letters, digits, `_`, `.`, `-`)."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.pattern = f"{{{namespace}:*"
        self.rows_pattern = f"{{{namespace}:g*}}:*:*:*"
        self._row = re.compile(rf"\{{{re.escape(namespace)}:g(\d+)\}}:(c|pop):(\w+):(\d+)")
        meta, index = f"{{{namespace}:meta}}:", f"{{{namespace}:index}}:"
        self.layout = meta + "layout"
        self.state_id = meta + "state_id"
        self.catalogue = meta + "catalogue"
        self.catalogue_offsets = meta + "catalogue_offsets"
        self.models = meta + "models"
        self.model_orders = meta + "model_orders"
        self.control = meta + "control"
        self.control_orders = meta + "control_orders"
        self.ids = index + "ids"
        self.names = index + "names"
        self.changes = index + "changes"
        self.version = index + "version"

    def _group(self, group: int) -> str:
        return f"{{{self.namespace}:g{group}}}:"

    def _partition(self, partition: int) -> str:
        return f"{{{self.namespace}:p{partition}}}:"

    def group_watermarks(self, group: int) -> str:
        return self._group(group) + "wm"

    def items(self, group: int) -> str:
        return self._group(group) + "items"

    def epochs(self, group: int) -> str:
        return self._group(group) + "epochs"

    def rows(self, group: int, row_ids: list[RowId]) -> list[str]:
        """Return the keys of rows of one group."""
        prefix = self._group(group)
        return [f"{prefix}{kind}:{span}:{number}" for kind, span, number in row_ids]

    def row_of(self, key: str) -> tuple[int, RowId] | None:
        """Return the group and id of the row that a key holds; None for any other key."""
        found = self._row.fullmatch(key)
        if found is None:
            return None
        group, kind, where, number = found.groups()
        return int(group), (kind, int(where) if kind == "c" else where, int(number))

    def partition_watermark(self, partition: int) -> str:
        return self._partition(partition) + "wm"

    def owed(self, partition: int) -> str:
        return self._partition(partition) + "owed"

    def event_time(self, partition: int) -> str:
        return self._partition(partition) + "newest_s"

    def users_prefix(self, partition: int) -> str:
        return self._partition(partition) + "u:"

    def users(self, partition: int, user_ids: list[str]) -> list[str]:
        prefix = self.users_prefix(partition)
        return [prefix + user_id for user_id in user_ids]

    def bought(self, partition: int, user_ids: list[str]) -> list[str]:
        """Return the keys of users' windows of one partition."""
        prefix = self._partition(partition) + "bought:"
        return [prefix + user_id for user_id in user_ids]

    def published(self, group: int) -> str:
        return self._group(group) + "published"

    def shown_prefix(self, partition: int) -> str:
        return self._partition(partition) + "shown:"

    def shown(self, partition: int, user_ids: list[str]) -> list[str]:
        """Return the keys of users' rows of shown items."""
        prefix = self.shown_prefix(partition)
        return [prefix + user_id for user_id in user_ids]

    def duplicates(self, partition: int, chunk: int) -> str:
        return f"{self._partition(partition)}dup:{chunk}"

    def profile(self, partition: int, user_id: str) -> str:
        return f"{self._partition(partition)}profile:{user_id}"

    def asked(self, partition: int) -> str:
        """Return the key of how often lists were asked for users of a partition."""
        return self._partition(partition) + "asked"

    def merged(self, partition: int) -> str:
        """Return the key of the ids of a partition that go on as another one."""
        return self._partition(partition) + "merged"

    def sources(self, partition: int) -> str:
        """Return the key of the ids that may go on as accounts of a partition."""
        return self._partition(partition) + "sources"

"""The state store as workers see it: its values, and what each step may assume. Adapters: `workers.redis`, and one in memory for tests.

Order of a batch: `apply_items` on every item group, again with recut ranges where a group answers `straddled`, then `commit_users`.
A crash anywhere leaves a state from which a replay with any other batch cuts ends at the same sums.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, Protocol

from recsys.state.row_names import RowId
from workers.runtime.counts import Traffic
from workers.state.control_port import ControlRecords
from workers.state.related_port import RelatedStore
from workers.state.server_identity import ServerIdentity as ServerIdentity
from workers.state.shown_port import ShownRows
from workers.state.users_topic import UsersTopicStore

LAYOUT_VERSION = 2
"""Version of keys and packed values in the store; another version refuses to start."""
MOST_EPOCHS = 32

RowAddress = tuple[int, RowId]
"""(item group, row)."""


class Watermark(NamedTuple):
    """Progress of a partition of the events topic: everything up to `last_applied_offset` is applied."""

    topic_id: str
    last_applied_offset: int


@dataclass(frozen=True, slots=True)
class Layout:
    """Parameters that are fixed for the life of the state. `duplicate_chunk` is in offsets, `epoch_s` in seconds of event time,
    `shown_items` in entries of a user (0: impressions are not counted)."""

    partitions: int
    item_groups: int
    epoch_s: int
    duplicate_chunk: int
    layout_version: int = LAYOUT_VERSION
    shown_items: int = 0


class Range(NamedTuple):
    """Offsets `first`..`last` (inclusive) of a partition, derived from the state as of offset `base` < `first` (-1: the empty state)."""

    partition: int
    topic_id: str
    base: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class GroupDeltas:
    """Records to append to rows of one item group.

    `ends` is little-endian u32, one a row, ascending: where the row's records end in `payload`, in bytes; `payload` holds 8-byte records
    (`recsys.state.item_row`). No rows is allowed: the group's watermarks move all the same.
    """

    group: int
    row_ids: list[RowId] = field(default_factory=list)
    ends: bytes = b""
    payload: bytes = b""

    def __post_init__(self) -> None:
        last_end = int.from_bytes(self.ends[-4:], "little")
        if len(self.ends) != 4 * len(self.row_ids) or last_end != len(self.payload) or len(self.payload) % 8:
            sizes = f"{len(self.row_ids)} rows, {len(self.ends)} bytes of ends, last end {last_end}, {len(self.payload)} bytes of payload"
            raise ValueError(f"deltas do not fit together: {sizes}")


class ApplyStatus(StrEnum):
    APPLIED = "applied"
    """Every range was new; all of it is applied."""
    SKIPPED = "skipped"
    """Every range was applied before; nothing changed."""
    STRADDLED = "straddled"
    """Some of it was applied before, nothing changed: cut each range at its watermark and send the rest again."""
    GAP = "gap"
    """The group's watermark is below `base`, nothing changed: state was lost (failover), replay from the lowest watermark."""
    TOPIC_CHANGED = "topic_changed"
    """A watermark is of another topic id, nothing changed: the topic was created again, a person must drop the state."""


@dataclass(frozen=True, slots=True)
class GroupResult:
    """Answer of one item group. `row_lengths` (bytes, u32 each, in the order of the deltas) is filled when applied.

    `watermarks` are those found before the call, by source partition; None: the partition was never applied to this group.
    """

    group: int
    status: ApplyStatus
    row_lengths: bytes
    watermarks: dict[int, Watermark | None]


@dataclass(frozen=True, slots=True)
class UserCommit:
    """Users of one partition to write when its watermark still is `expected_last` (-1: none yet), which then moves to `new_last`.

    `duplicate_chunks` maps chunk (offset // `Layout.duplicate_chunk`) to packed u64 hashes to append; chunks older than the one before
    that of `new_last` are deleted. `new_last` = `expected_last` writes the rows and leaves the watermark. `owed` are users whose new list
    is deferred: they are noted in the same step, until `settle_lists` removes them. `newest_s` is the event time of the newest event among
    those that move the watermark (0: none counts): the partition's event time never goes back. `shown` are the rows of shown items by user,
    `bought` users' windows (`recsys.state.bought`). Of `erased` users, who are among none of the others, all three are removed in the same
    step, and they wait for no list any more.
    """

    partition: int
    topic_id: str
    expected_last: int
    new_last: int
    rows: Mapping[str, bytes]
    duplicate_chunks: Mapping[int, bytes] = field(default_factory=dict)
    owed: Sequence[str] = ()
    newest_s: int = 0
    shown: Mapping[str, bytes] = field(default_factory=dict)
    bought: Mapping[str, bytes] = field(default_factory=dict)
    erased: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.new_last < self.expected_last or self.expected_last < -1:
            raise ValueError(f"a watermark only moves forward: partition {self.partition}, from {self.expected_last} to {self.new_last}")


class CommitResult(NamedTuple):
    """`current` is the watermark afterwards: the new one when committed, another worker's (or None) when fenced."""

    partition: int
    committed: bool
    current: Watermark | None


class TailKind(StrEnum):
    TAIL = "tail"
    """`content` is what follows the known length; empty when nothing was appended."""
    FULL = "full"
    """The row was compacted, cut or never known: `content` is the whole row."""
    MISSING = "missing"


class RowTail(NamedTuple):
    kind: TailKind
    content: bytes


class Compaction(NamedTuple):
    """`bytes_read` counts the header; `new_body` has none (`recsys.state.item_row.compact`)."""

    row_id: RowId
    generation: int
    bytes_read: int
    new_body: bytes


class ItemRecord(NamedTuple):
    """One record of the items topic; `content` is JSON, None removes the item."""

    number: int
    partition: int
    source_offset: int
    content: bytes | None


class StoredItem(NamedTuple):
    """One item as it is stored: the record of the items topic it came from, and its JSON, None for a removed item."""

    partition: int
    source_offset: int
    content: bytes | None


class StateStore(ShownRows, RelatedStore, UsersTopicStore, ControlRecords, Protocol):
    """State of the recommender. Every method raises Transient when the server is away or busy (one attempt, all calls may be repeated)
    and Fatal when a person must act; `open` comes first."""

    # After a restart of a server every call raises Transient until `open` is called again: what a caller holds may be ahead of it.

    async def open(self, layout: Layout, generation: int | None = None) -> None:
        """Load the functions and write the layout of a generation (None: the active one), or compare it; may be called again, which
        turns to the generation that is active by then. Raises Fatal naming what differs and the remedy."""
        ...

    async def open_read_only(self) -> Layout:
        """Turn to the active generation for reads only, writing nothing, and return its layout. Raises Fatal when it holds no state, or one
        of another layout version."""
        ...

    @property
    def generation(self) -> int:
        """The generation that every method reads and writes: the one that `open` turned to."""
        ...

    @property
    def traffic(self) -> Traffic:
        """Round trips, commands and bytes so far."""
        ...

    async def active_generation(self) -> int:
        """The generation that workers serve; 0 until the state is rebuilt for the first time."""
        ...

    async def generations(self) -> list[int]:
        """The generations that hold a state, in order; looks at the names of all keys."""
        ...

    async def wanted_generation(self) -> int:
        """The one that `open` would open now: the active one, or the one that this store is pinned to."""
        ...

    async def switch_generation(self, expected: int, to: int) -> bool:
        """Make another generation the active one, if `expected` still is (compare-and-set); this store stays where it is."""
        ...

    async def drop_generation(self, generation: int) -> int:
        """Delete all of a generation, freeing memory in the background; how many keys there were. Raises Fatal for the active one."""
        ...

    async def claim_rebuild(self, owner: str, hold_s: float) -> bool:
        """Be the only one that rebuilds, for `hold_s` seconds from now (0 gives it back); False while another owner is."""
        ...

    async def watermarks(self, partitions: Sequence[int]) -> dict[int, Watermark | None]:
        """User watermark of each partition: the low-water mark of all its state."""
        ...

    async def event_times(self, partitions: Sequence[int]) -> dict[int, int | None]:
        """Event time of each partition in seconds: that of the newest event that counts. 0: none counts, None: nothing is applied."""
        ...

    async def group_watermarks(self, group: int) -> dict[int, Watermark]:
        """One item group's watermarks by source partition."""
        ...

    async def state_id(self) -> str:
        """Return the id of this state, drawn when an empty namespace is laid out: a state that lost everything has another one."""
        ...

    async def item_numbers(self, item_ids: Sequence[str], n_known: int = 0, last_known: str = "") -> list[int]:
        """Number of each id; new ids get the next numbers in the order given. The caller knows the first `n_known` ids by number, the last
        of them is `last_known`. Raises Fenced, and assigns nothing, when the store does not: a failover lost numbers."""
        ...

    async def restore_names(self, first: int, names: Sequence[str]) -> bool:
        """Put back ids of the numbers from `first` on, which a failover lost; False, and nothing changes, if they do not fit there."""
        ...

    async def known_item_numbers(self, item_ids: Sequence[str]) -> list[int | None]:
        """Number of each id, None for an id never seen; assigns nothing."""
        ...

    async def item_names(self, start: int = 0) -> list[str]:
        """Item ids by number, from number `start` to the newest."""
        ...

    async def n_items(self) -> int:
        """Return how many items have a number: those of the catalogue, and those of events."""
        ...

    async def read_users(self, partition: int, user_ids: Sequence[str]) -> list[bytes | None]:
        """Packed rows of users of one partition."""
        ...

    async def read_users_of(self, requests: Mapping[int, Sequence[str]]) -> dict[int, list[bytes | None]]:
        """`read_users` of several partitions in one round trip."""
        ...

    async def read_users_at(self, partition: int, user_ids: Sequence[str]) -> tuple[Watermark | None, list[bytes | None]]:
        """`read_users` and the partition's watermark, of one moment: the rows are of the state as of that offset."""
        ...

    async def numbers_used(self) -> int:
        """Return how many item numbers rows of any group may use: more than there are names means that the numbering lost some."""
        ...

    async def apply_items(self, ranges: Sequence[Range], deltas: Sequence[GroupDeltas], n_numbers: int = 0) -> list[GroupResult]:
        """Append each group's records, all or nothing a group, if all ranges are new to it; groups at once, in one round trip. They use
        item numbers below `n_numbers`."""
        ...

    async def commit_users(self, commits: Sequence[UserCommit]) -> list[CommitResult]:
        """Compare-and-set of each partition's users and watermark; partitions in one round trip.

        A call repeated after Transient may find its own commit: then `committed` is False and `current` equals what it wanted.
        """
        ...

    async def owed_lists(self, partition: int, at_most: int) -> list[str]:
        """Return some users of a partition whose list is deferred."""
        ...

    async def settle_lists(self, partition: int, made_from: Watermark, user_ids: Sequence[str], asked: Sequence[int] | None = None) -> bool:
        """Their lists are published; False, and nothing changes, when the partition's watermark is not the one they were made from. A user
        for whom lists were asked more often since than `asked` says (None: not at all) waits for another one."""
        ...

    async def read_duplicates(self, partition: int, chunks: Sequence[int]) -> list[bytes]:
        """Packed u64 hashes of each chunk; empty where there are none."""
        ...

    async def read_rows(self, rows: Sequence[RowAddress]) -> list[bytes | None]: ...

    async def item_epochs(self, numbers: Sequence[int]) -> list[list[int]]:
        """The newest `MOST_EPOCHS` epochs in which each item had a row, ascending: noted when the row is created, and for good."""
        ...

    async def read_rows_at(self, group: int, row_ids: Sequence[RowId]) -> tuple[dict[int, Watermark], list[bytes | None]]:
        """Rows of one item group and its watermarks by source partition, of one moment."""
        ...

    async def read_row_tails(self, rows: Sequence[tuple[RowAddress, int, int]]) -> list[RowTail]:
        """Return what was appended since: rows as (address, known generation, known length in bytes with header)."""
        ...

    async def compact_rows(self, group: int, compactions: Sequence[Compaction]) -> list[int]:
        """Replace what was read by its sums; the new length of each row in bytes, 0 where it had changed and was left alone."""
        ...

    def scan_rows(self) -> AsyncIterator[list[RowAddress]]:
        """Yield pages of rows, in no order. A row that is written during the scan may come twice or not at all."""
        ...

    async def drop_rows(self, rows: Sequence[RowAddress]) -> int:
        """Delete rows, freeing memory in the background; how many there were."""
        ...

    async def upsert_items(self, records: Sequence[ItemRecord]) -> int:
        """Store catalogue records (newest source offset wins) and bump the catalogue version; how many are what is stored now."""
        ...

    async def changed_items(self, since_version: int) -> tuple[int, list[int]]:
        """Catalogue version, and the items changed after `since_version` (all, if the store is behind it: state was lost)."""
        ...

    async def read_items(self, numbers: Sequence[int]) -> list[bytes | None]:
        """Item JSON; None if unknown or removed."""
        ...

    async def read_stored_items(self, numbers: Sequence[int]) -> list[StoredItem | None]:
        """Items with the records they came from, removed ones too; None for an item that was never described nor removed."""
        ...

    def scan_items(self, generation: int) -> AsyncIterator[list[tuple[str, StoredItem]]]:
        """Pages of what a generation, not only the opened one, stores of items by item id, whatever its layout; none for an empty one."""
        ...

    async def catalogue_read(self) -> str:
        """Return the last value that `note_catalogue` wrote; empty if there is none."""
        ...

    async def catalogue_read_into(self, generation: int) -> str:
        """`catalogue_read` of a generation, not only the opened one."""
        ...

    async def note_catalogue(self, what: str) -> None:
        """Remember that items, profiles and models of these topics have been read from their start into this state."""
        ...

    async def catalogue_offsets(self) -> dict[str, int]:
        """Up to which offset (exclusive) each partition of the low-rate topics has been read into this state, by `topic/partition`."""
        ...

    async def note_catalogue_offsets(self, next_offsets: Mapping[str, int]) -> None:
        """Note how far partitions of the low-rate topics have been read into this state."""
        ...

    async def set_serving(self, kind: str, announcement: bytes, order: int) -> bool:
        """Make an announcement (JSON) the serving one of its kind, unless one of a higher order is; True if it serves now."""
        ...

    async def serving(self) -> dict[str, bytes]:
        """Serving announcement of each model kind."""
        ...

    def scan_users(self, partition: int) -> AsyncIterator[str]:
        """Yield user ids of a partition, in no order. A user that is written during the scan may come twice or not at all."""
        ...

    async def ping(self) -> None: ...

    async def server_identity(self) -> list[ServerIdentity]:
        """Each primary, one without a cluster."""
        ...

    async def close(self) -> None: ...

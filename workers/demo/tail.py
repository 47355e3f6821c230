"""The demo's reader: a consumer of lists, model announcements and dead letters in a thread, as any other program would read them."""

from __future__ import annotations

import threading
import time

import orjson

from schemas import ModelAnnouncement, Recommendations, SchemaError, decode_announcement, decode_recommendations
from workers.demo.figures import TOP, ReadList
from workers.errors import Fatal
from workers.kafka.records import BlockingRangeReader, Record
from workers.settings import Settings

POLL_MS = 50
RECORDS_AT_ONCE = 2_000


class Tail:
    """Everything on three topics from their beginning. `lists` grows in the order of reading; `newest` holds each user's latest list."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.lists: list[ReadList] = []
        self.newest: dict[str, ReadList] = {}
        self.announcements: list[tuple[float, ModelAnnouncement]] = []
        self.dead_letters: list[bytes] = []
        self._records: dict[str, bytes] = {}
        self._failure: BaseException | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-tail", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop reading. Safe to call twice."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(10)

    def check(self) -> None:
        """Raises Fatal when the reader failed or something was dead-lettered: the demo sends nothing that is wrong."""
        if self._failure is not None:
            raise Fatal(f"the reader of lists failed: {type(self._failure).__name__}: {self._failure}")
        if self.dead_letters:
            raise Fatal(f"{len(self.dead_letters)} records are on the dead-letter topic: {orjson.loads(self.dead_letters[0])['reason']}")

    def whole_list(self, user_id: str) -> Recommendations:
        """The newest list of a user, checked against its schema. Raises SchemaError, KeyError."""
        found = decode_recommendations(self._records[user_id], user_id.encode())
        assert found is not None  # tombstones are not kept
        return found

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:
            self._failure = error

    def _read(self) -> None:
        settings, topics = self._settings, self._settings.topics
        take = {topics.recommendations: self._take_list, topics.models: self._take_announcement, topics.dead_letters: self._take_dead}
        starts = {(topics.recommendations, partition): 0 for partition in range(topics.partitions)}
        with BlockingRangeReader(settings, max_records=RECORDS_AT_ONCE) as reader:
            reader.start_at({**starts, (topics.models, 0): 0, (topics.dead_letters, 0): 0})
            while not self._stopping.is_set():
                for (topic, _), records in reader.poll(POLL_MS).items():
                    now_s = time.time()
                    for record in records:
                        take[topic](record, now_s)

    def _take_list(self, record: Record, now_s: float) -> None:
        if record.value is None:
            return
        found = orjson.loads(record.value)
        trigger, user_id = found["trigger"], (record.key or b"").decode()
        if found["user_id"] != user_id:
            raise SchemaError("a list lies under another user's key")
        top = tuple(item["item_id"] for item in found["items"][:TOP])
        read = ReadList(user_id, trigger["partition"], trigger["source_offset"], trigger["event_id"], now_s, top, found["model_versions"])
        self.lists.append(read)
        held = self.newest.get(user_id)
        if held is None or read.source_offset >= held.source_offset:
            self._records[user_id] = record.value
            self.newest[user_id] = read

    def _take_announcement(self, record: Record, now_s: float) -> None:
        announcement = decode_announcement(record.value, record.key)
        if announcement is not None:
            self.announcements.append((now_s, announcement))

    def _take_dead(self, record: Record, now_s: float) -> None:
        self.dead_letters.append(record.value or b"")

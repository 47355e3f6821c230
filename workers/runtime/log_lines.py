"""Log lines for log stores: one JSON object a line, in which hashes stand for ids.

A message of this program names no person. Ids come in two ways: as `LoggedId` among the arguments of a message, and as fields of a record
(`extra={"user_id": …}`). Text lines show them; JSON lines, which are kept and searched by many, show a keyed hash.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
from datetime import UTC, datetime
from typing import Any

from pydantic import SecretStr

from workers.runtime.text import visible

HASHED_FIELDS = ("user_id", "item_id", "event_id", "session_id", "list_id", "key")
"""Fields of a record that hold an id."""
PLAIN_FIELDS = ("kind", "topic", "partition", "source_offset", "alarm", "service", "trace_id")
"""Fields of a record that are written as they are."""
HASH_BYTES = 8


class LoggedId:
    """An id as an argument of a log message: text lines show it, JSON lines its hash."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __str__(self) -> str:
        return str(self.value)

    __repr__ = __str__


class JsonLines(logging.Formatter):
    """Writes a record as one JSON object: `ts`, `level`, `logger`, `worker`, `message`, `exception`, and its fields."""

    def __init__(self, worker: str = "", hash_key: SecretStr | None = None) -> None:
        """Without a key the process draws one, and hashes of two processes differ."""
        super().__init__()
        given = secrets.token_bytes(32) if hash_key is None else hash_key.get_secret_value().encode()
        self._worker, self._key = worker, hashlib.sha256(given).digest()

    def hashed(self, value: object) -> str:
        """Return the hash that stands for an id."""
        return hashlib.blake2b(str(value).encode("utf-8", "replace"), key=self._key, digest_size=HASH_BYTES).hexdigest()

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "worker": self._worker,
            "message": visible(self._message(record)),
        }
        fields = vars(record)
        line |= {name: fields[name] for name in PLAIN_FIELDS if name in fields}
        line |= {name: self.hashed(fields[name]) for name in HASHED_FIELDS if fields.get(name) is not None}
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line, ensure_ascii=False, default=str)

    def _message(self, record: logging.LogRecord) -> str:
        """Return the message with hashes for its ids."""
        arguments = record.args
        if isinstance(arguments, tuple) and any(isinstance(argument, LoggedId) for argument in arguments):
            shown = tuple(self.hashed(argument) if isinstance(argument, LoggedId) else argument for argument in arguments)
            return str(record.msg) % shown
        return record.getMessage()

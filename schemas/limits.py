"""Caps of the wire, each with its unit and its reason. A wider cap on an input topic is compatible, a narrower one is not."""

from typing import Final

EVENT_MAX_BYTES: Final = 65_536
"""Bytes of one event. Thrice a full context of plain text; the largest valid event still fits (a test proves it)."""
ERASURE_MAX_BYTES: Final = 4_096
"""Bytes of the record that erases a user; two ids fit."""
ITEM_MAX_BYTES: Final = 1_000_000
"""Bytes of one item: four embeddings of 3,072 numbers as JSON are 300 kB, the largest valid item 600 kB; a broker's limit is above."""
PROFILE_MAX_BYTES: Final = 262_144
"""Bytes of one profile; like an item, without text and embeddings."""
RECOMMENDATIONS_MAX_BYTES: Final = 1_000_000
"""Bytes of one list; a broker's `message.max.bytes` is 1,048,588 unless somebody changed it."""
RELATED_MAX_BYTES: Final = 262_144
"""Bytes of one list of items: a hundred places with escaped ids are 120 kB."""
ANNOUNCEMENT_MAX_BYTES: Final = 131_072
"""Bytes of one model announcement."""
CONTROL_MAX_BYTES: Final = 524_288
"""Bytes of one set of rules: fifty long conditions are 400 kB. Larger ones are refused before they are parsed."""
DEAD_LETTER_MAX_BYTES: Final = 786_432
"""Bytes of one dead letter: base64 of the largest payload that is kept (below), and its coordinates."""
DEAD_LETTER_MAX_PAYLOAD_BYTES: Final = 524_288
"""Bytes of a raw record that may be put into a dead letter; of a larger one only size and hash are kept."""

MAX_DEPTH: Final = 64
"""Nesting levels of one record. The models need 4; parsers recurse, and unknown fields may nest too."""

ID_MAX_BYTES: Final = 128
"""Bytes (UTF-8) of an id. Ids are parts of Redis keys and Kafka keys, held once for every user and item."""
NAME_MAX_CHARS: Final = 64
"""Characters of the name of an attribute, context entry, source, embedding or metric."""
LABEL_MAX_CHARS: Final = 256
"""Characters of a categorical or context value."""
TITLE_MAX_CHARS: Final = 512
TEXT_MAX_CHARS: Final = 8_192
"""Characters of an item's text; beyond that a content encoder gains nothing."""
REASON_MAX_CHARS: Final = 1_024
URL_MAX_CHARS: Final = 2_048

MAX_CONTEXT_ENTRIES: Final = 32
MAX_CATEGORIES: Final = 32
MAX_NUMERIC_ATTRIBUTES: Final = 32
MAX_CATEGORICAL_ATTRIBUTES: Final = 32
"""With the numeric ones 64 attributes in all."""
MAX_EMBEDDINGS: Final = 4
MAX_EMBEDDING_DIMENSIONS: Final = 3_072
MAX_EMBEDDING_VALUE: Final = 1e6
"""Largest magnitude of one coordinate, so that the squared length of 3,072 of them is finite in float32."""
MAX_LIST_ITEMS: Final = 200
MAX_RELATED_ITEMS: Final = 100
"""Places of a list of items."""
MAX_BECAUSE: Final = 10
"""Items that one recommendation names as its reason; a person reads two or three."""
MAX_RULES: Final = 8
"""Rules that one recommendation names as having moved it."""
MAX_PUBLISHED_RULES: Final = 50
RULE_MAX_CHARS: Final = 8_192
"""Characters of the condition of a rule."""
MAX_RULE_PLACES: Final = 20
MAX_ROWS: Final = 16
"""Rows of one page; people scroll past fewer."""
MAX_ROW_ITEMS: Final = 50
"""Items of one row."""
MAX_SOURCES: Final = 16
MAX_MODELS: Final = 16
"""Model kinds that may take part in one list."""
MAX_METRICS: Final = 64
MAX_POSITION: Final = 10_000
"""Largest position on a page (endless scrolling) that an event can be attributed to."""

MAX_RATING: Final = 1e6
"""Largest magnitude of a rating's value; ratings are read, so a larger one is taken for a mistake."""
MAX_VALUE: Final = 1e15
"""Largest magnitude of another event's value (seconds played, a price in any currency)."""
MAX_NUMBER: Final = 1e15
"""Largest magnitude of other numbers: exact in float64 when whole, finite in float32."""
MAX_SAFE_INTEGER: Final = 2**53 - 1
"""Whole numbers beyond this are rounded by readers that have doubles only (JavaScript)."""
MAX_OFFSET: Final = 2**63 - 1
MAX_PARTITION: Final = 2**31 - 1

TIMESTAMP_MIN_MS: Final = 100_000_000_000
"""1973-03-03. Seconds sent by mistake (1.7e9) lie below it, so the mistake is refused instead of being read as January 1970."""
TIMESTAMP_MAX_MS: Final = 4_102_444_800_000
"""2100-01-01. Microseconds sent by mistake lie above it."""
CALENDAR_MIN_MS: Final = -62_135_596_800_000
"""0001-01-01: an item may have been published long before 1970."""
CALENDAR_MAX_MS: Final = 253_402_300_799_999
"""The last millisecond of 9999, which catalogues use for "never expires"."""
SECONDS_MAX: Final = 4_102_444_800
"""2100-01-01 in seconds. An item's time of a smaller magnitude may be seconds that were sent by mistake (`schemas.times`)."""

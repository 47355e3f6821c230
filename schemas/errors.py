"""Errors of the wire.

SchemaError
└── Poison    this record, never again: dead letter
"""


class SchemaError(Exception):
    """Base of everything `schemas` raises on purpose."""


class Poison(SchemaError):
    """One record that cannot be read, now or later.

    `field` is a dotted path of schema names, or `record` (the whole value) or `key` (the Kafka key). `reason` is one line: the field, the
    kind of value found there and the remedy; it never holds the value itself. `kind` is a short code that machines can count by.
    """

    def __init__(self, field: str, reason: str, kind: str) -> None:
        super().__init__(field, reason, kind)
        self.field = field
        self.reason = reason
        self.kind = kind

    def __str__(self) -> str:
        return self.reason

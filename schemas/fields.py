"""Field types and the base class that all wire models share.

Scalars are strict one by one (no boolean as a number, no numeric string, no NaN); containers are not, so that Python code may pass a list
for a tuple or `"view"` for `EventType.VIEW`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, PydanticUseDefault, core_schema

from schemas import limits

# Neither C0, DEL nor C1. Spelled so that Rust's, ECMAScript's and Python's regular expressions agree.
_VISIBLE = r"[^\u0000-\u001f\u007f-\u009f]"


def _at_most_128_bytes(text: str) -> str:
    # A character takes at most 4 bytes of UTF-8, so most ids need no encoding to be sure.
    if len(text) * 4 > limits.ID_MAX_BYTES and len(text.encode()) > limits.ID_MAX_BYTES:
        raise PydanticCustomError("id_too_long", "Id should have at most {max_bytes} bytes of UTF-8", {"max_bytes": limits.ID_MAX_BYTES})
    return text


class _NullIsNotGiven:
    """Marks an optional field in which null stands for "not given": the field then has its default."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(_default_if_null, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        inner = handler(schema)
        return inner if handler.mode == "serialization" else {"anyOf": [inner, {"type": "null"}]}


def _default_if_null(value: Any) -> Any:
    if value is None:
        raise PydanticUseDefault
    return value


NULL_IS_NOT_GIVEN = _NullIsNotGiven()

Id = Annotated[
    str,
    Field(
        strict=True,
        min_length=1,
        max_length=limits.ID_MAX_BYTES,
        pattern=f"^{_VISIBLE}+$",
        json_schema_extra={"x-max-bytes": limits.ID_MAX_BYTES},
    ),
    AfterValidator(_at_most_128_bytes),
]
"""1 to 128 bytes of UTF-8 without control characters."""

Name = Annotated[str, Field(strict=True, min_length=1, max_length=limits.NAME_MAX_CHARS, pattern=f"^{_VISIBLE}+$")]
Label = Annotated[str, Field(strict=True, max_length=limits.LABEL_MAX_CHARS)]
Version = Annotated[str, Field(strict=True, pattern=r"^[A-Za-z0-9_.+-]{1,64}$")]
"""A model version or variant: letters, digits, `_ . + -`, because it becomes part of a path."""
Kind = Annotated[str, Field(strict=True, pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Sha256 = Annotated[str, Field(strict=True, pattern=r"^[0-9a-f]{64}$")]

Flag = Annotated[bool, Field(strict=True)]
Number = Annotated[float, Field(strict=True, ge=-limits.MAX_NUMBER, le=limits.MAX_NUMBER, allow_inf_nan=False)]
Coordinate = Annotated[float, Field(strict=True, ge=-limits.MAX_EMBEDDING_VALUE, le=limits.MAX_EMBEDDING_VALUE, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, le=limits.MAX_SAFE_INTEGER)]
Partition = Annotated[int, Field(strict=True, ge=0, le=limits.MAX_PARTITION)]
Offset = Annotated[int, Field(strict=True, ge=0, le=limits.MAX_OFFSET)]
TimestampMs = Annotated[int, Field(strict=True, ge=limits.TIMESTAMP_MIN_MS, le=limits.TIMESTAMP_MAX_MS)]
CalendarMs = Annotated[int, Field(strict=True, ge=limits.CALENDAR_MIN_MS, le=limits.CALENDAR_MAX_MS)]

Value = Annotated[float, Field(strict=True, ge=-limits.MAX_VALUE, le=limits.MAX_VALUE, allow_inf_nan=False)]
Position = Annotated[int, Field(strict=True, ge=1, le=limits.MAX_POSITION)]

Scalar = (
    Annotated[bool, Field(strict=True)]
    | Annotated[int, Field(strict=True, ge=-limits.MAX_SAFE_INTEGER, le=limits.MAX_SAFE_INTEGER)]
    | Annotated[float, Field(strict=True, ge=-limits.MAX_NUMBER, le=limits.MAX_NUMBER, allow_inf_nan=False)]
    | Annotated[str, Field(strict=True, max_length=limits.LABEL_MAX_CHARS)]
)
NumericAttributes = Annotated[dict[Name, Number], Field(max_length=limits.MAX_NUMERIC_ATTRIBUTES)]
CategoricalAttributes = Annotated[dict[Name, Label], Field(max_length=limits.MAX_CATEGORICAL_ATTRIBUTES)]
Categories = Annotated[tuple[Annotated[Label, Field(min_length=1)], ...], Field(max_length=limits.MAX_CATEGORIES)]

# `Literal[1]` would take `true` and `1.0` for 1.
SchemaVersion = Annotated[int, Field(strict=True, ge=1, le=1), WithJsonSchema({"type": "integer", "const": 1})]

ListVersion = Annotated[int, Field(strict=True, ge=1, le=2), WithJsonSchema({"type": "integer", "enum": [1, 2]})]
"""Version of a list: 2 with rows, else 1."""


class Wire(BaseModel):
    """Base of every wire model: immutable, unknown fields ignored, null in an optional field taken for "not given".

    Ignoring them lets a reader of version 1 read what a newer producer of version 1 writes. Producers that want a misspelt optional field
    to be refused build their records with `schemas.decoding.from_fields`. Of a name that occurs twice in one JSON object the last counts.
    """

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, validate_default=False, use_attribute_docstrings=True, protected_namespaces=(),
        defer_build=True,
    )  # fmt: skip

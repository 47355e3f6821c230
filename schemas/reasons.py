"""Why a record was refused, in words that never repeat what the record says."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from annotated_types import Le
from pydantic import ValidationError

from schemas.errors import Poison
from schemas.fields import Wire
from schemas.times import unit_hint

_KINDS_OF_VALUE: Final = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "an array",
    tuple: "an array",
    dict: "an object",
    type(None): "null",
}


def poison_of(model: type[Wire], error: ValidationError) -> Poison:
    """The first fault of a record as a Poison; a wrong schema version goes before all others, because it explains them."""
    faults = error.errors(include_url=False, include_context=True)
    fault: dict[str, Any] = dict(next((f for f in faults if f["loc"][:1] == ("schema_version",)), faults[0]))
    if fault["type"] == "json_invalid":
        # The parser's own words: a position and what it expected there, never the text.
        return Poison("record", f"record: {_lower(fault['msg'])}; send one JSON object in UTF-8", "not_json")
    field, whole = _path(model, fault)
    found = "nothing" if fault["type"] == "missing" else _KINDS_OF_VALUE.get(type(fault["input"]), "a value")
    if field == "schema_version":
        newest = max(int(str(bound.le)) for bound in model.model_fields[field].metadata if isinstance(bound, Le))
        known = "version 1" if newest == 1 else f"versions 1 to {newest}"
        remedy = f"send {known}, or upgrade the readers first"
        return Poison(field, f"{field}: got {found}, this reader knows {known}; {remedy}", "unknown_version")
    if fault["type"] == "extra_forbidden":
        return Poison(field, f"{field}: unknown field; send only: {', '.join(model.model_fields)}", "unknown_field")
    top = model.model_fields.get(field.split(".")[0])
    remedy = f"send {top.description}" if top is not None and top.description else "send one JSON object"
    complaint = f"{_lower(fault['msg'])}; " if whole else ""
    if field.endswith("_ts_ms") and fault["type"] != "missing" and (hint := unit_hint(fault["input"])) is not None:
        complaint += f"{hint}; "
    return Poison(field, f"{field}: got {found}; {complaint}{remedy}".replace("\n", " "), _code(field, fault["type"]))


def _path(model: type[Wire], fault: dict[str, Any]) -> tuple[str, bool]:
    """The dotted path of a fault in schema names, `*` for a name that the record chose; and whether it is the fault's whole path."""
    location = fault["loc"]
    if not location:
        return str(fault.get("ctx", {}).get("field", "record")), True
    if fault["type"] == "extra_forbidden":
        return "record", True
    names, open_names = _names(model)
    parts: list[str] = []
    for part in location:
        if isinstance(part, int):
            parts.append(str(part))
        elif part in names and not (parts and parts[-1] in open_names):
            parts.append(part)
        else:
            return ".".join([*parts, "*"]), False
    nested = fault.get("ctx", {}).get("field")
    return ".".join([*parts, nested] if isinstance(nested, str) else parts), True


@cache
def _names(model: type[Wire]) -> tuple[frozenset[str], frozenset[str]]:
    """Field names of the model and of the models inside it; and those of them whose values are objects with names of the record's own."""
    schema = model.model_json_schema(mode="validation")
    properties = [schema["properties"], *(definition.get("properties", {}) for definition in schema.get("$defs", {}).values())]
    names = {name: field for fields in properties for name, field in fields.items()}
    return frozenset(names), frozenset(
        name for name, field in names.items() if {"patternProperties", "additionalProperties"} & field.keys()
    )


def _code(field: str, fault_type: str) -> str:
    if fault_type == "missing":
        return "missing_field"
    if field == "type" and fault_type == "enum":
        return "unknown_event_type"
    return "invalid_field"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:] if not message.startswith("JSON") else message

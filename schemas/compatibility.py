"""Does a changed schema break readers? A comparison of two JSON Schemas, as strict as it must be and no stricter.

Input topics: what a producer may write under the old schema must be valid under the new one. Output topics: what we write under the new
schema must be valid under the old one, which consumers hold. Both are one question, whether every value of a *narrow* schema is valid under
a *wide* one; a property must besides never vanish, as its values would be ignored in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

Schema = Mapping[str, Any]
Direction = Literal["input", "output"]

_ANNOTATIONS: Final = frozenset({"title", "description", "examples", "$defs", "$schema", "$id", "$comment", "default", "readOnly"})
_UPPER: Final = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "x-max-bytes"})
_LOWER: Final = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_STRUCTURE: Final = frozenset(
    {
        "$ref",
        "type",
        "enum",
        "const",
        "anyOf",
        "properties",
        "required",
        "items",
        "additionalProperties",
        "propertyNames",
        "patternProperties",
    }
)


def incompatibilities(old: Schema, new: Schema, direction: Direction) -> list[str]:
    """List what a change from `old` to `new` breaks, one line a problem. Both are whole JSON Schema documents."""
    problems = _vanished(old, new, old, new, "record")
    if direction == "input":
        problems += _changed_defaults(old, new, old, new, "record")
        return problems + _not_within(old, new, _Documents(old, new), "record", "the new schema refuses what was valid")
    return problems + _not_within(new, old, _Documents(new, old), "record", "old readers refuse what is now written")


def version_incompatibilities(old: Schema, new: Schema) -> list[str]:
    """List what readers of the version `old` of an output topic could not read of the version `new`, if they pass over its number."""
    stated = {"schema_version": old["properties"]["schema_version"]}
    return incompatibilities(old, {**new, "properties": {**new["properties"], **stated}}, "output")


class _Documents:
    """The documents that `$ref`s of the narrow and the wide side point into, and the pairs of references under comparison."""

    def __init__(self, narrow: Schema, wide: Schema) -> None:
        self.narrow = narrow
        self.wide = wide
        self.pairs: set[tuple[str, str]] = set()


def _resolved(schema: Any, document: Schema) -> dict[str, Any]:
    """The schema with its reference replaced by what it points to; `true` and `false` in the object form."""
    if schema is True:
        return {}
    if schema is False:
        return {"enum": []}
    resolved = dict(schema)
    while "$ref" in resolved:
        target: Any = document
        for part in str(resolved.pop("$ref")).removeprefix("#/").split("/"):
            target = target[part]
        resolved = {**target, **resolved}
    return resolved


def _walk(
    old: Any,
    new: Any,
    old_document: Schema,
    new_document: Schema,
    path: str,
    visit: Callable[[dict[str, Any], dict[str, Any], str], list[str]],
) -> list[str]:
    """Visit the object schemas that both sides have in the same place."""
    before, after = _resolved(old, old_document), _resolved(new, new_document)
    found = visit(before, after, path)
    for name, schema in before.get("properties", {}).items():
        if name in after.get("properties", {}):
            found += _walk(schema, after["properties"][name], old_document, new_document, f"{path}.{name}", visit)
    for inner in ("items", "additionalProperties"):
        if isinstance(before.get(inner), Mapping) and isinstance(after.get(inner), Mapping):
            found += _walk(before[inner], after[inner], old_document, new_document, f"{path}.*", visit)
    old_objects = [b for b in before.get("anyOf", ()) if "properties" in _resolved(b, old_document)]
    new_objects = [b for b in after.get("anyOf", ()) if "properties" in _resolved(b, new_document)]
    if len(old_objects) == len(new_objects) == 1:
        found += _walk(old_objects[0], new_objects[0], old_document, new_document, path, visit)
    return found


def _vanished(old: Schema, new: Schema, old_document: Schema, new_document: Schema, path: str) -> list[str]:
    def visit(before: dict[str, Any], after: dict[str, Any], where: str) -> list[str]:
        gone = before.get("properties", {}).keys() - after.get("properties", {}).keys()
        return [f"{where}.{name}: removed; keep it, or make schema version 2" for name in sorted(gone)]

    return _walk(old, new, old_document, new_document, path, visit)


def _changed_defaults(old: Schema, new: Schema, old_document: Schema, new_document: Schema, path: str) -> list[str]:
    def visit(before: dict[str, Any], after: dict[str, Any], where: str) -> list[str]:
        found = []
        for name, schema in before.get("properties", {}).items():
            other = after.get("properties", {}).get(name)
            if other is not None and schema.get("default") != other.get("default"):
                found.append(f"{where}.{name}: default changed; records already written would change their meaning")
        return found

    return _walk(old, new, old_document, new_document, path, visit)


def _not_within(narrow_schema: Any, wide_schema: Any, documents: _Documents, path: str, consequence: str) -> list[str]:
    """Why not every value of `narrow` is valid under `wide`."""
    if isinstance(narrow_schema, Mapping) and isinstance(wide_schema, Mapping) and "$ref" in narrow_schema and "$ref" in wide_schema:
        pair = (str(narrow_schema["$ref"]), str(wide_schema["$ref"]))
        if pair in documents.pairs:
            return []  # under comparison further up, or done
        documents.pairs.add(pair)
    narrow, wide = _resolved(narrow_schema, documents.narrow), _resolved(wide_schema, documents.wide)
    if "anyOf" in narrow:
        rest = {key: value for key, value in narrow.items() if key != "anyOf"}
        return [p for branch in narrow["anyOf"] for p in _not_within({**rest, **branch}, wide, documents, path, consequence)]
    if "anyOf" in wide:
        return _not_within_any(narrow, wide, documents, path, consequence)

    def problem(what: str) -> str:
        return f"{path}: {what}; {consequence}"

    problems = []
    narrow_values, wide_values = _values(narrow), _values(wide)
    if wide_values is not None:
        if narrow_values is None:
            return [problem("limited to fixed values")]
        return [problem(f"value {value!r} is known to one side only") for value in narrow_values if not _contains(wide_values, value)]
    narrow_types = _types(narrow) if narrow_values is None else set(map(_type_of, narrow_values))
    if not narrow_types <= _types(wide):
        return [problem(f"types {sorted(narrow_types)} against {sorted(_types(wide))}")]
    for keyword in sorted((narrow.keys() | wide.keys()) - _ANNOTATIONS - _STRUCTURE):
        problems += [problem(what) for what in _limit(keyword, narrow.get(keyword), wide.get(keyword))]
    return problems + _not_within_parts(narrow, wide, documents, path, consequence)


def _not_within_any(narrow: dict[str, Any], wide: dict[str, Any], documents: _Documents, path: str, consequence: str) -> list[str]:
    """The fewest problems against any branch; an approximation that errs on the strict side (a value may straddle branches)."""
    rest = {key: value for key, value in wide.items() if key != "anyOf"}
    attempts = []
    for branch in wide["anyOf"]:
        trial = _Documents(documents.narrow, documents.wide)
        trial.pairs |= documents.pairs
        attempts.append(_not_within(narrow, {**rest, **branch}, trial, path, consequence))
    return min(attempts, key=len, default=[f"{path}: nothing is valid; {consequence}"])


def _not_within_parts(narrow: dict[str, Any], wide: dict[str, Any], documents: _Documents, path: str, consequence: str) -> list[str]:
    """Objects and arrays: required names, properties, names and values of open objects, elements."""
    problems = [
        f"{path}.{name}: required by one side, optional or absent on the other; {consequence}"
        for name in sorted(set(wide.get("required", ())) - set(narrow.get("required", ())))
    ]
    for name, schema in narrow.get("properties", {}).items():
        if name in wide.get("properties", {}):
            problems += _not_within(schema, wide["properties"][name], documents, f"{path}.{name}", consequence)
        elif wide.get("additionalProperties") is False:
            problems.append(f"{path}.{name}: unknown to one side, which refuses unknown fields; {consequence}")
    if "properties" in narrow and wide.get("additionalProperties") is False and narrow.get("additionalProperties") is not False:
        problems.append(f"{path}: unknown fields are refused by one side only; {consequence}")
    if "properties" not in narrow and wide.get("required"):
        problems.append(f"{path}: an open object became one with fixed fields; {consequence}")
    for inner in ("items", "additionalProperties", "propertyNames"):
        if inner in wide and not (inner == "additionalProperties" and "properties" in narrow):
            problems += _not_within(narrow.get(inner, True), wide[inner], documents, f"{path}.*", consequence)
    if narrow.get("patternProperties") != wide.get("patternProperties"):
        problems += _not_within_patterns(narrow, wide, documents, path, consequence)
    return problems


def _not_within_patterns(narrow: dict[str, Any], wide: dict[str, Any], documents: _Documents, path: str, consequence: str) -> list[str]:
    before, after = narrow.get("patternProperties", {}), wide.get("patternProperties", {})
    if before.keys() != after.keys():
        return [f"{path}.*: the pattern of names changed; {consequence}"]
    return [p for name in before for p in _not_within(before[name], after[name], documents, f"{path}.*", consequence)]


def _values(schema: dict[str, Any]) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    return list(schema["enum"]) if "enum" in schema else None


def _contains(values: list[Any], value: Any) -> bool:
    return any(type(known) is type(value) and known == value for known in values)  # 1 is not true


def _types(schema: dict[str, Any]) -> set[str]:
    every = {"null", "boolean", "integer", "number", "string", "array", "object"}
    types = schema.get("type", sorted(every))
    types = {types} if isinstance(types, str) else set(types)
    return types | {"integer"} if "number" in types else types


def _type_of(value: Any) -> str:
    """The JSON Schema type of a fixed value."""
    names = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
    return names.get(type(value), "object")


def _limit(keyword: str, narrow: Any, wide: Any) -> list[str]:
    """A bound, pattern or unknown keyword of the wide side that the narrow side does not keep."""
    if wide is None or narrow == wide:
        return []
    if narrow is not None and ((keyword in _UPPER and narrow <= wide) or (keyword in _LOWER and narrow >= wide)):
        return []
    return [f"{keyword} {'none' if narrow is None else repr(narrow)} against {wide!r}"]

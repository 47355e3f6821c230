"""JSON Schema and AsyncAPI documents of the wire, generated: `python -m schemas.export [--check | --freeze]`.

`docs/schemas/<Name>.v1.json` and `docs/asyncapi.json` are what the code says today. `docs/schemas/frozen/v1/` is what has been promised:
a change may add to it (`--freeze` records that), never break it. A list with rows is a record of version 2: `Recommendations.v2.json`,
promised in `frozen/v2/`, is valid under version 1 but for its number.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from schemas.compatibility import Direction, incompatibilities, version_incompatibilities
from schemas.contracts import CONTRACTS, RECOMMENDATIONS, Contract
from schemas.decoding import encode, key_of
from schemas.examples import EXAMPLES, PAGE
from schemas.examples import RECOMMENDATIONS as RECOMMENDATIONS_EXAMPLE

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_DOCS: Final = Path(__file__).resolve().parent.parent / "docs"


def json_schema(contract: Contract[Any]) -> dict[str, Any]:
    """The JSON Schema of a topic: of input topics what is accepted, of output topics what is written."""
    mode = "validation" if contract.direction == "input" else "serialization"
    return {"$schema": _DIALECT, **contract.model.model_json_schema(mode=mode), "examples": [_example(contract)]}


def list_schema(version: int) -> dict[str, Any]:
    """The JSON Schema of lists of one version: 1 has no rows."""
    schema = {**json_schema(RECOMMENDATIONS), "examples": [json.loads(encode(PAGE if version > 1 else RECOMMENDATIONS_EXAMPLE))]}
    fields = schema["properties"]
    stated = {key: value for key, value in fields["schema_version"].items() if key != "enum"}
    schema["properties"] = {**fields, "schema_version": {**stated, "const": version}}
    if version == 1:
        del schema["properties"]["rows"]
        schema["$defs"] = {name: part for name, part in schema["$defs"].items() if name not in ("Row", "RowItem")}
    else:
        schema["required"] = [*schema["required"], "rows"]
        schema["properties"]["schema_version"]["default"] = version
    return schema


def promises() -> dict[str, tuple[dict[str, Any], Direction]]:
    """File name of each frozen schema, its present form, and the direction in which it must stay compatible.

    Records of output topics outlive a release (compaction), so what our own readers accept of them is frozen too.
    """
    frozen: dict[str, tuple[dict[str, Any], Direction]] = {}
    for contract in CONTRACTS:
        schema = list_schema(1) if contract is RECOMMENDATIONS else json_schema(contract)
        frozen[f"{contract.name}.json"] = (schema, contract.direction)
        if contract.direction == "output":
            accepted = {"$schema": _DIALECT, **contract.model.model_json_schema(mode="validation")}
            frozen[f"{contract.name}.reader.json"] = (accepted, "input")
    frozen[f"../v2/{RECOMMENDATIONS.name}.json"] = (list_schema(2), "output")
    return frozen


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document: channels, their keys, messages, schemas and examples; operations as seen from this system."""
    modes: list[tuple[Any, Any]] = [(c.model, "validation" if c.direction == "input" else "serialization") for c in CONTRACTS]
    names, definitions = models_json_schema(modes, ref_template="#/components/schemas/{model}")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Streaming recommender",
            "version": "1.0.0",
            "description": "Publish what users do, the catalogue and profiles; read a fresh, explained list for each user. "
            "Values are JSON in UTF-8, keys are ids in UTF-8. "
            "Readers ignore unknown fields; the major version is `schema_version` in each record.",
        },
        "defaultContentType": "application/json",
        "channels": {contract.name: _channel(contract) for contract in CONTRACTS if not contract.channel},
        "operations": {
            f"{'receive' if contract.direction == 'input' else 'send'}{contract.name}": {
                "action": "receive" if contract.direction == "input" else "send",
                "channel": {"$ref": f"#/channels/{contract.channel or contract.name}"},
                "messages": [{"$ref": f"#/channels/{contract.channel or contract.name}/messages/{contract.name}"}],
            }
            for contract in CONTRACTS
        },
        "components": {
            "messages": {
                contract.name: _message(contract, names[contract.model, mode]) for contract, (_, mode) in zip(CONTRACTS, modes, strict=True)
            },
            "schemas": definitions["$defs"],
        },
    }


def documents() -> dict[str, str]:
    """Every generated document: path below `docs/` and its text."""
    generated = {f"schemas/{contract.name}.v1.json": _text(json_schema(contract)) for contract in CONTRACTS}
    generated |= {f"schemas/{RECOMMENDATIONS.name}.v{version}.json": _text(list_schema(version)) for version in (1, 2)}
    return {**generated, "asyncapi.json": _text(asyncapi())}


def stale(docs: Path = _DOCS) -> list[str]:
    """Generated documents that differ from the files below `docs`, and files in their place that nothing generates."""
    current = documents()
    wrong = [path for path, text in current.items() if not (docs / path).is_file() or (docs / path).read_text("utf-8") != text]
    extra = [f"schemas/{found.name}" for found in (docs / "schemas").glob("*.json") if f"schemas/{found.name}" not in current]
    return sorted(wrong + extra)


def broken(docs: Path = _DOCS) -> list[str]:
    """Promises below `docs` that the present code breaks, or that nobody froze yet; one line each."""
    folder, current, problems = docs / "schemas" / "frozen" / "v1", promises(), []
    for name, (schema, direction) in current.items():
        if not (folder / name).is_file():
            problems.append(f"{name}: not frozen yet; run python -m schemas.export --freeze")
            continue
        frozen = json.loads((folder / name).read_text("utf-8"))
        problems += [f"{name}: {problem}" for problem in incompatibilities(frozen, schema, direction)]
    lists = current["Recommendations.json"][0]
    problems += [f"version 2 of lists: {problem}" for problem in version_incompatibilities(lists, list_schema(2))]
    removed = sorted(found.name for found in folder.glob("*.json") if found.name not in current)
    return problems + [f"{name}: frozen, but no longer generated; a promised topic may not vanish" for name in removed]


def main(arguments: list[str] | None = None, *, docs: Path = _DOCS) -> int:
    """Write the documents, check them (`--check`, exit code 1 if stale or broken), or record compatible additions (`--freeze`)."""
    parser = argparse.ArgumentParser(prog="python -m schemas.export", description="Generate the documents of the wire.")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a document is stale or a promise broken")
    action.add_argument("--freeze", action="store_true", help="record compatible additions in docs/schemas/frozen")
    options = parser.parse_args(arguments)
    problems = [problem for problem in broken(docs) if not (options.freeze and "not frozen yet" in problem)]
    if options.check:
        problems += [f"docs/{path} is stale: run python -m schemas.export" for path in stale(docs)]
    elif not options.freeze:
        for path, text in documents().items():
            _write(docs / path, text)
    elif not problems:
        for name, (schema, _) in promises().items():
            _write(docs / "schemas" / "frozen" / "v1" / name, _text(schema))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _channel(contract: Contract[Any]) -> dict[str, Any]:
    return {
        "address": contract.address,
        "title": contract.title,
        "description": "Compacted: the newest record of a key counts." if contract.compacted else "Kept for the topic's retention time.",
        "messages": {
            other.name: {"$ref": f"#/components/messages/{other.name}"}
            for other in CONTRACTS
            if contract.name in (other.name, other.channel)
        },
        "bindings": {
            "kafka": {
                "topic": contract.address,
                "topicConfiguration": {"cleanup.policy": ["compact" if contract.compacted else "delete"]},
                "bindingVersion": "0.5.0",
            }
        },
    }


def _message(contract: Contract[Any], reference: dict[str, Any]) -> dict[str, Any]:
    tombstone = f" A null value {contract.tombstone}." if contract.tombstone else " A null value is refused."
    return {
        "name": contract.name,
        "title": contract.title,
        "summary": f"{(contract.model.__doc__ or '').splitlines()[0]} At most {contract.max_bytes} bytes.{tombstone}",
        "contentType": "application/json",
        "payload": reference,
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": f"{':'.join(contract.key_fields)}, in UTF-8"},
                "bindingVersion": "0.5.0",
            }
        },
        "examples": [
            {"name": "example", "summary": f"Its key is {key_of(EXAMPLES[contract.model]).decode()}.", "payload": _example(contract)}
        ],
    }


def _example(contract: Contract[Any]) -> Any:
    return json.loads(encode(EXAMPLES[contract.model]))


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


if __name__ == "__main__":
    raise SystemExit(main())

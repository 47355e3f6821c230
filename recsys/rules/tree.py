"""A condition whose names are known and whose types fit: what `recsys.rules.check` returns and `recsys.rules.evaluate` evaluates.

A value may be missing: an attribute that an item does not have. As CEL's errors do, a missing value makes a comparison unknown. `&&` is
false if one side is false and `||` true if one side is true, whatever the other is; else unknown stays unknown, its negation too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

Owner: TypeAlias = Literal["item", "user"]
Plain: TypeAlias = str | float | tuple[str, ...] | tuple[float, ...]
"""A constant: a text, a number (times are seconds since 1970), or a list of constants."""


class Kind(StrEnum):
    """Type of a value, by the name that messages give it."""

    TRUTH = "true or false"
    TEXT = "a text"
    NUMBER = "a number"
    TIME = "a time"
    TEXTS = "a list of texts"
    NUMBERS = "a list of numbers"


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that the condition states."""

    value: Plain
    kind: Kind


@dataclass(frozen=True, slots=True)
class Column:
    """A value of each item or user: `name` is one of `recsys.rules.names`, or the name of an attribute if `is_attribute`."""

    owner: Owner
    name: str
    kind: Kind
    is_attribute: bool = False


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation on values: a comparison, `in`, arithmetic (`+ - * /`, `negative`), `size`, `lowerAscii`, `startsWith`, `endsWith` or
    `contains`; `kind` is the kind of its result."""

    op: str
    operands: tuple[Node, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class Has:
    """True where a value is there: one of these columns is not missing, and is no empty list or title."""

    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Not:
    operand: Node


@dataclass(frozen=True, slots=True)
class Every:
    """Operands joined by `&&`."""

    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """Operands joined by `||`."""

    operands: tuple[Node, ...]


Node: TypeAlias = Constant | Column | Apply | Has | Not | Every | Some


def operands_of(node: Node) -> tuple[Node, ...]:
    """Return the nodes directly below one."""
    match node:
        case Apply(operands=operands) | Every(operands=operands) | Some(operands=operands):
            return operands
        case Not(operand=operand):
            return (operand,)
        case Has(columns=columns):
            return columns
        case _:
            return ()


def columns_of(node: Node) -> frozenset[Column]:
    """Return all columns that a condition reads."""
    if isinstance(node, Column):
        return frozenset((node,))
    return frozenset(column for operand in operands_of(node) for column in columns_of(operand))


def owners_of(node: Node) -> frozenset[Owner]:
    """Return whether a condition is about items, users, both or none."""
    return frozenset(column.owner for column in columns_of(node))

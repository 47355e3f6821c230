"""Conditions of rules, read item by item in plain Python: what the arrays must agree with."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recsys.rules.tree import Apply, Column, Constant, Every, Has, Node, Not, Some

DAY_S = 86_400
COMPARE = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
COMPUTE = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


@dataclass(frozen=True)
class PlainItem:
    """An item as rules see it; times in seconds."""

    id: str | None = None
    title: str = ""
    categories: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    published_s: int | None = None
    expires_s: int | None = None


@dataclass(frozen=True)
class PlainUser:
    """A user as rules see them; `texts` and `numbers` are the attributes of their profile."""

    id: str | None = None
    categories: Sequence[str] = ()
    history_size: int = 0
    idle_s: float | None = None
    texts: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)


class Missing(Exception):
    """A value is not there."""


def holds(node: Node, item: PlainItem, user: PlainUser, now_s: int) -> bool | None:
    """Return whether a condition is true of one item for one user; None where it is unknown."""
    match node:
        case Every(operands=operands):
            found = [holds(operand, item, user, now_s) for operand in operands]
            return False if False in found else None if None in found else True
        case Some(operands=operands):
            found = [holds(operand, item, user, now_s) for operand in operands]
            return True if True in found else None if None in found else False
        case Not(operand=operand):
            inner = holds(operand, item, user, now_s)
            return None if inner is None else not inner
        case Has(columns=columns):
            return any(_is_there(column, item, user, now_s) for column in columns)
    assert isinstance(node, Apply)
    try:
        left, right = (_value(operand, item, user, now_s) for operand in node.operands)
    except Missing:
        return None
    match node.op:
        case "in":
            return left in right
        case "startsWith":
            return bool(left.startswith(right))
        case "endsWith":
            return bool(left.endswith(right))
        case "contains":
            return right in left
        case op:
            return bool(COMPARE[op](left, right))


def _is_there(column: Column, item: PlainItem, user: PlainUser, now_s: int) -> bool:
    try:
        value = _value(column, item, user, now_s)
    except Missing:
        return False
    return column.is_attribute or not (isinstance(value, str | tuple | list) and not value)


def _value(node: Node, item: PlainItem, user: PlainUser, now_s: int) -> Any:
    match node:
        case Constant(value=value):
            return value
        case Column():
            return _column(node, item, user, now_s)
        case Apply(op="size", operands=(operand,)):
            return float(len(_value(operand, item, user, now_s)))
        case Apply(op="lowerAscii", operands=(operand,)):
            text = _value(operand, item, user, now_s)
            return "".join(letter.lower() if letter.isascii() else letter for letter in text)
        case Apply(op="negative", operands=(operand,)):
            return -_value(operand, item, user, now_s)
        case Apply(op=op, operands=(first, second)):
            left, right = (_value(operand, item, user, now_s) for operand in (first, second))
            if op == "/" and right == 0:
                with np.errstate(all="ignore"):
                    return float(np.divide(np.float64(left), np.float64(right)))
            return COMPUTE[op](left, right)
    raise AssertionError(node)


def _column(column: Column, item: PlainItem, user: PlainUser, now_s: int) -> Any:
    if column.is_attribute:
        owner = item if column.owner == "item" else user
        values: Mapping[str, Any] = owner.texts if column.kind == "a text" else owner.numbers
        if column.name not in values:
            raise Missing
        return values[column.name]
    of_items = {
        "id": item.id,
        "title": item.title,
        "categories": item.categories,
        "published": item.published_s,
        "expires": item.expires_s,
        "age_days": None if item.published_s is None else (now_s - item.published_s) / DAY_S,
    }
    of_users = {
        "id": user.id,
        "categories": user.categories,
        "history_size": user.history_size,
        "idle_days": None if user.idle_s is None else user.idle_s / DAY_S,
    }
    found = (of_items if column.owner == "item" else of_users)[column.name]
    if found is None:
        raise Missing
    return found

"""Gives a written condition types: knows its names, or says which it does not know; refuses what does not fit, with the remedy."""

from __future__ import annotations

import datetime as dt
from typing import Final, NoReturn

from recsys.errors import RuleError
from recsys.rules import names
from recsys.rules.syntax import Written, parse
from recsys.rules.tree import Apply, Column, Constant, Every, Has, Kind, Node, Not, Owner, Some, owners_of

COMPARISONS: Final = ("==", "!=", "<", "<=", ">", ">=")
ARITHMETIC: Final = ("+", "-", "*", "/")
_ORDERED: Final = (Kind.TEXT, Kind.NUMBER, Kind.TIME)


def condition(when: str) -> Node:
    """Return a condition that is true, false or unknown of each item. Raises RuleError, which says where it is wrong and what to write."""
    written = parse(when)
    node = _truth(written)
    if "item" not in owners_of(node):
        raise RuleError("it says nothing about the item: compare item.id, item.categories or an attribute such as item.brand")
    return node


def _refuse(written: Written, message: str) -> NoReturn:
    raise RuleError(f"column {written.at}: {message}")


def _truth(written: Written) -> Node:
    """Return the node of something that must be true or false."""
    match written.op:
        case "||":
            return Some(tuple(_truth(operand) for operand in written.operands))
        case "&&":
            return Every(tuple(_truth(operand) for operand in written.operands))
        case "!":
            return Not(_truth(written.operands[0]))
        case "in":
            return _one_side(written, _within(written))
        case "?:":
            _refuse(written, "?: is not known here: write (a && b) || (!a && c)")
        case op if op in COMPARISONS:
            return _one_side(written, _comparison(written))
        case "call" if written.value == "has":
            return _has(written)
        case "method" if written.value in ("startsWith", "endsWith", "contains"):
            return _one_side(written, _text_method(written))
    kind = _kind(written)
    if kind is None:
        _refuse(written, f"{_shown(written)} is compared with nothing: write {_shown(written)} == …, or has({_shown(written)})")
    _refuse(written, f"{_shown(written)} is {kind}, where true or false is needed: compare it")


def _one_side(written: Written, node: Node) -> Node:
    """Refuse a comparison of items with users: it would need a number for each pair."""
    if len(owners_of(node)) > 1:
        _refuse(written, "it compares the item with the user: write two comparisons, one of each, joined by && or ||")
    return node


def _kind(written: Written) -> Kind | None:
    """Return the kind that a node has by itself; None of an attribute, which is what it is compared with."""
    match written.op:
        case "literal":
            if isinstance(written.value, bool) or written.value is None:
                _refuse(written, f"{_shown(written)} is not needed: write has(…), the comparison itself, or !(…)")
            return Kind.TEXT if isinstance(written.value, str) else Kind.NUMBER
        case "listed":
            return _list(written).kind
        case "selected":
            owner = _owner(written.operands[0])
            return _property(written, owner)
        case "indexed":
            _check_index(written)
            return None
        case "method" if written.value == "lowerAscii":
            return Kind.TEXT
        case "call" | "method" if written.value in ("size", "double"):
            return Kind.NUMBER
        case "call" if written.value == "string":
            return Kind.TEXT
        case "call" if written.value == "timestamp":
            return Kind.TIME
        case "name":
            _owner(written)
            _refuse(written, f"write {written.value}.id or another property of it")
        case "negative" | "+" | "-" | "*" | "/":
            return Kind.NUMBER
        case "%":
            _refuse(written, "% is not known here")
        case "call":
            _unknown_function(written, names.FUNCTIONS)
        case "method":
            if written.value not in names.METHODS:
                _unknown_function(written, names.METHODS)
    return Kind.TRUTH


def _unknown_function(written: Written, known: tuple[str, ...]) -> NoReturn:
    name = str(written.value)
    if name in names.ELSEWHERE:
        _refuse(written, f"{name}() is not known here: {names.ELSEWHERE[name]}")
    if name in names.METHODS or name in names.FUNCTIONS:
        form = f"value.{name}(…)" if name in names.METHODS else f"{name}(value)"
        _refuse(written, f"{name} is written {form}")
    _refuse(written, f"unknown function {name}; {names.did_you_mean(name, known)}")


def _owner(written: Written) -> Owner:
    if written.op == "name" and written.value in names.OF:
        return "item" if written.value == "item" else "user"
    if written.op == "name":
        _refuse(written, f"unknown name {written.value}; {names.did_you_mean(str(written.value), names.OF)}")
    _refuse(written, "only item and user have properties: write item.name or user.name")


def _check_index(written: Written) -> None:
    target, key = written.operands
    if target.op == "name" and _owner(target) and key.op == "literal" and isinstance(key.value, str):
        return
    _refuse(written, 'brackets hold the name of an attribute: write item["name of attribute"] or user["name of attribute"]')


def _property(written: Written, owner: Owner) -> Kind | None:
    """Return the kind of a property, None of an attribute. Raises RuleError for one that is not known, or is likely misspelt."""
    name = str(written.value)
    if name in names.OF[owner]:
        return names.OF[owner][name]
    near = names.NOT_ATTRIBUTES[owner].get(name) or names.nearest(name, names.OF[owner], names.ALIKE)
    if near is not None:
        attribute = f'{owner}["{name}"]'
        _refuse(written, f"unknown name {owner}.{name}; did you mean {owner}.{near}? An attribute of that name is {attribute}")
    return None


def _typed(written: Written, expected: Kind) -> Node:
    """Return the node of a value of the expected kind."""
    kind = _kind(written)
    if kind is not None and kind is not expected:
        _refuse(written, f"{_shown(written)} is {kind}, where {expected} is needed")
    match written.op:
        case "literal":
            return Constant(written.value, expected)
        case "listed":
            return _list(written)
        case "selected" if kind is not None:
            return Column(_owner(written.operands[0]), str(written.value), kind)
        case "selected" | "indexed":
            if expected not in (Kind.TEXT, Kind.NUMBER):
                _refuse(written, f"{_shown(written)} is an attribute, a text or a number, where {expected} is needed")
            name = written.value if written.op == "selected" else written.operands[1].value
            return Column(_owner(written.operands[0]), str(name), expected, is_attribute=True)
        case "negative" | "+" | "-" | "*" | "/":
            return Apply(written.op, tuple(_typed(operand, Kind.NUMBER) for operand in written.operands), Kind.NUMBER)
        case "method" if written.value == "lowerAscii":
            return Apply("lowerAscii", (_typed(_only(written), Kind.TEXT),), Kind.TEXT)
        case "call" | "method" if written.value == "size":
            return _size(written)
        case "call" if written.value in ("string", "double"):
            return _typed(_only(written), Kind.TEXT if written.value == "string" else Kind.NUMBER)
        case _:
            return _timestamp(written)


def _only(written: Written) -> Written:
    """Return the only operand of a function."""
    if len(written.operands) != 1:
        form = f"value.{written.value}()" if written.op == "method" else f"{written.value}(value)"
        _refuse(written, f"{written.value} takes one value: write {form}")
    return written.operands[0]


def _size(written: Written) -> Node:
    operand = _only(written)
    kind = _kind(operand) or Kind.TEXT
    if kind is Kind.TEXTS and operand.op == "selected" and _owner(operand.operands[0]) == "user":
        _refuse(written, "user.categories has no size: write has(user.categories) or user.history_size")
    if kind not in (Kind.TEXT, Kind.TEXTS):
        _refuse(operand, f"{_shown(operand)} is {kind}, and only texts and lists have a size")
    if operand.op == "listed":
        _refuse(operand, "size of a list that is written out: write the number")
    return Apply("size", (_typed(operand, kind),), Kind.NUMBER)


def _timestamp(written: Written) -> Constant:
    given = _only(written)
    if given.op == "literal" and isinstance(given.value, str):
        try:
            at = dt.datetime.fromisoformat(given.value)
        except ValueError:
            at = None
        if at is not None and at.tzinfo is not None:
            return Constant((at - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)).total_seconds(), Kind.TIME)
    _refuse(written, 'a time has a date, a time of day and a zone: write timestamp("2026-01-31T00:00:00Z")')


def _list(written: Written) -> Constant:
    values = [operand.value for operand in written.operands]
    if not values:
        _refuse(written, "a list is empty: write at least one value")
    for operand in written.operands:
        if operand.op == "negative" and operand.operands[0].op == "literal" and isinstance(operand.operands[0].value, float):
            values[written.operands.index(operand)] = -operand.operands[0].value
        elif operand.op != "literal" or isinstance(operand.value, bool) or operand.value is None:
            _refuse(operand, "a list holds texts or numbers that are written out")
    texts = tuple(value for value in values if isinstance(value, str))
    numbers = tuple(float(value) for value in values if isinstance(value, float))
    if texts and numbers:
        _refuse(written, "a list holds texts or numbers, not both")
    return Constant(texts, Kind.TEXTS) if texts else Constant(numbers, Kind.NUMBERS)


def _comparison(written: Written) -> Node:
    left, right = written.operands
    kinds = _kind(left), _kind(right)
    kind = kinds[0] or kinds[1]
    if kind is None:
        _refuse(written, f"it is not clear whether {_shown(left)} is a text or a number: write string({_shown(left)}) or double(…)")
    if kind is Kind.TIME and "literal" in (left.op, right.op):
        _refuse(written, 'a time is compared with a time: write timestamp("2026-01-31T00:00:00Z")')
    if Kind.TEXTS in kinds or Kind.NUMBERS in kinds:
        _refuse(written, 'a list is searched, not compared: write "x" in item.categories')
    if kind not in _ORDERED:
        _refuse(written, "true and false are joined, not compared: write a && b, or !a")
    return Apply(written.op, (_typed(left, kind), _typed(right, kind)), Kind.TRUTH)


def _within(written: Written) -> Node:
    left, right = written.operands
    kind = _kind(right)
    if kind not in (Kind.TEXTS, Kind.NUMBERS):
        _refuse(right, f"{_shown(right)} is no list: write item.categories, user.categories or a list in brackets after in")
    node = Apply("in", (_typed(left, Kind.TEXT if kind is Kind.TEXTS else Kind.NUMBER), _typed(right, kind)), Kind.TRUTH)
    if right.op == "selected" and left.op != "literal" and owners_of(node) == {"user"}:
        _refuse(left, 'in user.categories only a text is searched that is written out: write "toys" in user.categories')
    return node


def _has(written: Written) -> Node:
    operand = _only(written)
    kind = _kind(operand) if operand.op in ("selected", "indexed") else Kind.TRUTH
    if kind is Kind.TRUTH:
        _refuse(written, "has() takes a property: write has(item.name)")
    kinds = (kind,) if kind is not None else (Kind.TEXT, Kind.NUMBER)
    columns = tuple(_typed(operand, each) for each in kinds)
    return Has(tuple(column for column in columns if isinstance(column, Column)))


def _text_method(written: Written) -> Node:
    if len(written.operands) != 2:
        _refuse(written, f'{written.value} takes one text: write item.title.{written.value}("x")')
    if _kind(written.operands[0]) is Kind.TEXTS and written.value == "contains":
        _refuse(written, f'a list is searched with in: write "x" in {_shown(written.operands[0])}')
    return Apply(str(written.value), tuple(_typed(operand, Kind.TEXT) for operand in written.operands), Kind.TRUTH)


def _shown(written: Written) -> str:
    """Return how messages name a value."""
    match written.op:
        case "selected":
            return f"{written.operands[0].value}.{written.value}"
        case "indexed":
            return f"{written.operands[0].value}[{str(written.operands[1].value)!r}]"
        case "literal":
            words = {True: "true", False: "false", None: "null"}
            return words[written.value] if isinstance(written.value, bool) or written.value is None else repr(written.value)[:60]
        case "listed":
            return "the list"
        case _:
            return "the value"

"""Evaluates conditions on arrays: for all items of a catalogue, or for all users of a batch, at once.

Shapes: n rows, of items or of users; V distinct values. Text is computed once for each distinct value and then looked up by row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from recsys.rules.tree import Apply, Column, Constant, Every, Has, Kind, Node, Not, Some

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_LOWER: Final = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge
}  # fmt: skip
COMPUTE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts, or tuples of texts, by row: `codes` (n,) are places in `values` (V), −1 where there is none. `values` only grows, and
    `tables` remember what was computed of each of them."""

    codes: NDArray[np.integer[Any]]
    values: Sequence[Any]
    tables: dict[Any, Any] = field(default_factory=dict)


class Numbers(NamedTuple):
    """Numbers by row, (n,) or one for all; times are seconds since 1970."""

    values: F64
    known: Bools


class Sets(NamedTuple):
    """Sets of texts by row: those of `texts`, whose codes are (n, R), where they are `counted` (n, R), and those `named` by row."""

    texts: Texts
    counted: Bools
    named: Mapping[int, Sequence[str]]


class Truth(NamedTuple):
    """True where `yes`, false where `no`, else unknown; (n,) or one for all."""

    yes: Bools
    no: Bools


class Columns(Protocol):
    """Values of `n` items or users by column."""

    @property
    def n(self) -> int: ...

    def texts(self, column: Column) -> Texts | Sets:
        """Return a column of texts, or of lists or sets of texts."""
        ...

    def numbers(self, column: Column) -> Numbers:
        """Return a column of numbers or times."""
        ...


Operand: TypeAlias = Texts | Sets | Numbers | Constant


def evaluate(node: Node, columns: Columns) -> Truth:
    """Return where a condition is true and where it is false, (n,) each."""
    yes, no = _truth(node, columns)
    return Truth(np.broadcast_to(yes, (columns.n,)), np.broadcast_to(no, (columns.n,)))


def every(truths: Sequence[Truth]) -> Truth:
    """Return `&&` of truths whose shapes fit together."""
    yes, no = truths[0]
    for one in truths[1:]:
        yes, no = yes & one.yes, no | one.no
    return Truth(yes, no)


def some(truths: Sequence[Truth]) -> Truth:
    """Return `||` of truths whose shapes fit together."""
    yes, no = truths[0]
    for one in truths[1:]:
        yes, no = yes | one.yes, no & one.no
    return Truth(yes, no)


def _truth(node: Node, columns: Columns) -> Truth:
    match node:
        case Every(operands=operands):
            return every([_truth(operand, columns) for operand in operands])
        case Some(operands=operands):
            return some([_truth(operand, columns) for operand in operands])
        case Not(operand=operand):
            yes, no = _truth(operand, columns)
            return Truth(no, yes)
        case Has(columns=named):
            found = np.logical_or.reduce([_there(column, columns) for column in named])
            return Truth(found, ~found)
        case Apply(op=op, operands=(left, right)):
            return _relation(op, _value(left, columns), _value(right, columns))
    raise AssertionError(f"{node} is checked before")


def _there(column: Column, columns: Columns) -> Bools:
    if column.kind in (Kind.NUMBER, Kind.TIME):
        return columns.numbers(column).known
    texts = columns.texts(column)
    if isinstance(texts, Sets):
        return _any_of(texts, "has", bool, bool)
    known: Bools = texts.codes >= 0
    return known if column.is_attribute else known & _looked_up(texts, "has", bool, np.bool_)


def _value(node: Node, columns: Columns) -> Operand:
    match node:
        case Constant(kind=Kind.NUMBER | Kind.TIME, value=value):
            return Numbers(np.float64(value), np.True_)  # type: ignore[arg-type]
        case Constant():
            return node
        case Column(kind=Kind.NUMBER | Kind.TIME):
            return columns.numbers(node)
        case Column():
            return columns.texts(node)
        case Apply(op="size", operands=(operand,)):
            return _size(_value(operand, columns))
        case Apply(op="lowerAscii", operands=(operand,)):
            return _lowered(_value(operand, columns))
        case Apply(op="negative", operands=(operand,)):
            found = _numbers(_value(operand, columns))
            return Numbers(-found.values, found.known)
        case Apply(op=op, operands=(left, right)):
            first, second = _numbers(_value(left, columns)), _numbers(_value(right, columns))
            with np.errstate(all="ignore"):  # as in CEL, 1.0 / 0.0 is infinite
                return Numbers(COMPUTE[op](first.values, second.values), first.known & second.known)
    raise AssertionError(f"{node} is checked before")


def _numbers(operand: Operand) -> Numbers:
    assert isinstance(operand, Numbers)
    return operand


def _looked_up(texts: Texts, key: Any, function: Callable[[Any], Any], dtype: Any) -> NDArray[Any]:
    """Return a function of each row's text, (n,); any value where there is none. Computed once for each distinct value."""
    table = texts.tables.get(key)
    known = 0 if table is None else len(table)
    if table is None or known < len(texts.values):
        more = np.array([function(value) for value in texts.values[known:]], dtype)
        table = texts.tables[key] = more if table is None else np.concatenate((table, more))
    found: NDArray[Any] = table[texts.codes] if len(table) else np.zeros(texts.codes.shape, dtype)
    return found


def _any_of(sets: Sets, key: Any, of_list: Callable[[Any], bool], of_named: Callable[[Any], bool]) -> Bools:
    """Return for which rows a function is true of one of their lists, (n,)."""
    counted: Bools = _looked_up(sets.texts, key, of_list, np.bool_) & sets.counted
    found: Bools = np.logical_or.reduce(counted, axis=1)
    rows = [row for row, named in sets.named.items() if of_named(named)]
    found[rows] = True
    return found


def _size(operand: Operand) -> Numbers:
    if isinstance(operand, Texts):
        return Numbers(_looked_up(operand, "size", len, np.float64), operand.codes >= 0)
    assert isinstance(operand, Constant) and isinstance(operand.value, str)
    return Numbers(np.float64(len(operand.value)), np.True_)  # type: ignore[arg-type]


def _lowered(operand: Operand) -> Operand:
    if isinstance(operand, Constant):
        return Constant(str(operand.value).translate(_LOWER), operand.kind)
    assert isinstance(operand, Texts)
    values, tables = operand.tables.setdefault("lowerAscii", ([], {}))
    if len(values) < len(operand.values):
        values = values + [value.translate(_LOWER) for value in operand.values[len(values) :]]
        operand.tables["lowerAscii"] = values, tables
    return Texts(operand.codes, values, tables)


def _relation(op: str, left: Operand, right: Operand) -> Truth:
    if isinstance(left, Numbers):
        if op == "in":
            assert isinstance(right, Constant)
            return _settled(np.isin(left.values, right.value), left.known)
        other = _numbers(right)
        return _settled(COMPARE[op](left.values, other.values), left.known & other.known)
    assert not isinstance(right, Numbers)
    if isinstance(right, Sets):
        assert isinstance(left, Constant)
        wanted = left.value
        return _settled(_any_of(right, (op, 0, wanted), lambda texts: wanted in texts, lambda named: wanted in named), np.True_)
    function = _TEXT_RELATIONS.get(op) or COMPARE[op]
    if isinstance(left, Constant) and isinstance(right, Constant):
        return _settled(np.bool_(function(left.value, right.value)), np.True_)
    if isinstance(left, Texts) and isinstance(right, Constant):
        constant: Any = frozenset(right.value) if isinstance(right.value, tuple) else right.value
        return _settled(_looked_up(left, (op, 1, right.value), lambda text: function(text, constant), np.bool_), left.codes >= 0)
    if isinstance(left, Constant) and isinstance(right, Texts):
        return _settled(_looked_up(right, (op, 0, left.value), lambda text: function(left.value, text), np.bool_), right.codes >= 0)
    assert isinstance(left, Texts) and isinstance(right, Texts)
    return _pairs(function, left, right)


_TEXT_RELATIONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "in": lambda one, several: one in several,
    "startsWith": lambda text, part: text.startswith(part),
    "endsWith": lambda text, part: text.endswith(part),
    "contains": lambda text, part: part in text,
}


def _pairs(function: Callable[[Any, Any], bool], left: Texts, right: Texts) -> Truth:
    """Compare two columns: once for each distinct pair."""
    known = (left.codes >= 0) & (right.codes >= 0)
    width = max(len(right.values), 1)
    pairs, places = np.unique(left.codes[known].astype(np.int64) * width + right.codes[known], return_inverse=True)
    results = np.array([function(left.values[pair // width], right.values[pair % width]) for pair in pairs.tolist()], np.bool_)
    found = np.zeros(len(known), np.bool_)
    found[known] = results[places]
    return _settled(found, known)


def _settled(found: Any, known: Any) -> Truth:
    return Truth(known & found, known & ~np.asarray(found))

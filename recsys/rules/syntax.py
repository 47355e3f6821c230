"""Reads the text of a condition into a tree, by a grammar that is a part of CEL's. Nothing is looked up, computed or run here.

Source: https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from recsys.errors import RuleError

MAX_CHARS = 8_192
"""Characters of one condition: room for a list of some hundred ids."""
MAX_DEPTH = 32
"""Levels that a condition may nest."""

GRAMMAR = r"""
?start: choice
?choice: disjunction | disjunction "?" choice ":" choice -> ternary
?disjunction: conjunction (OR conjunction)*
?conjunction: relation (AND relation)*
?relation: sum | relation (COMPARED | IN) sum -> binary
?sum: product | sum (PLUS | MINUS) product -> binary
?product: unary | product (TIMES | OVER | MODULO) unary -> binary
?unary: member | NOT unary -> negated | MINUS unary -> negated
?member: primary | member "." NAME -> selected | member "." NAME "(" [arguments] ")" -> method | member "[" choice "]" -> indexed
?primary: NAME -> name | NAME "(" [arguments] ")" -> call | literal | "(" choice ")" | "[" [arguments] "]" -> listed
arguments: choice ("," choice)*
literal: FLOAT | INT | STRING | RAW | TRUE | FALSE | NULL

OR: "||"
AND: "&&"
COMPARED: "==" | "!=" | "<=" | ">=" | "<" | ">"
IN: "in"
TRUE: "true"
FALSE: "false"
NULL: "null"
PLUS: "+"
MINUS: "-"
TIMES: "*"
OVER: "/"
MODULO: "%"
NOT: "!"
NAME: /[A-Za-z_][A-Za-z0-9_]*/
FLOAT: /[0-9]+\.[0-9]+([eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+|\.[0-9]+([eE][+-]?[0-9]+)?/
INT: /0[xX][0-9a-fA-F]+|[0-9]+/
RAW.2: /[rR]("[^"\r\n]*"|'[^'\r\n]*')/
STRING: /"(\\[^\r\n]|[^"\\\r\n])*"|'(\\[^\r\n]|[^'\\\r\n])*'/
%ignore /[ \t\r\n\f]+/
"""
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\?\"'`])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.S)
_SIMPLE = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_WORDS = {"and": "&&", "AND": "&&", "or": "||", "OR": "||", "not": "!", "NOT": "!", "is": "==", "IN": "in", "like": "contains(…)"}


@dataclass(frozen=True, slots=True)
class Written:
    """A node of the text's tree: an operator, `name`, `literal`, `selected`, `indexed`, `method`, `call` or `listed`, its operands, a value
    (text, number, name), the column where it stands, from 1, and how many levels it has."""

    op: str
    operands: tuple[Written, ...]
    value: Any
    at: int
    depth: int


def parse(when: str) -> Written:
    """Return the tree of a condition. Raises RuleError, which names the column and the remedy."""
    if len(when) > MAX_CHARS:
        raise RuleError(f"it has {len(when):,} characters, {MAX_CHARS:,} are allowed: write several rules")
    if not when.strip():
        raise RuleError('it is empty: write a condition such as item.brand == "acme"')
    try:
        tree = _parser().parse(when)
    except UnexpectedInput as error:
        raise RuleError(_complaint(error, when)) from None
    assert isinstance(tree, Written)
    return tree


@cache
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", transformer=_Builder(), propagate_positions=False)


def _node(op: str, operands: tuple[Written, ...], at: int, value: Any = None) -> Written:
    depth = 1 + max((operand.depth for operand in operands), default=0)
    if depth > MAX_DEPTH:
        raise RuleError(f"column {at}: it nests deeper than {MAX_DEPTH} levels: write several rules")
    return Written(op, operands, value, at, depth)


def _column(token: Token) -> int:
    return int(token.start_pos or 0) + 1


class _Builder(Transformer[Token, Written]):
    """Builds nodes while the text is parsed, so that no deep tree is ever walked before its depth is known."""

    def ternary(self, parts: list[Written]) -> Written:
        return _node("?:", tuple(parts), parts[0].at)

    def disjunction(self, parts: list[Any]) -> Written:
        return _node("||", tuple(parts[::2]), parts[0].at)

    def conjunction(self, parts: list[Any]) -> Written:
        return _node("&&", tuple(parts[::2]), parts[0].at)

    def binary(self, parts: list[Any]) -> Written:
        left, operator, right = parts
        return _node(str(operator), (left, right), _column(operator))

    def negated(self, parts: list[Any]) -> Written:
        sign, operand = parts
        return _node("!" if sign == "!" else "negative", (operand,), _column(sign))

    def selected(self, parts: list[Any]) -> Written:
        return _node("selected", (parts[0],), parts[0].at, str(parts[1]))

    def indexed(self, parts: list[Any]) -> Written:
        return _node("indexed", tuple(parts), parts[0].at)

    def method(self, parts: list[Any]) -> Written:
        target, name, given = parts
        return _node("method", (target, *(given or ())), _column(name), str(name))

    def call(self, parts: list[Any]) -> Written:
        name, given = parts
        return _node("call", tuple(given or ()), _column(name), str(name))

    def listed(self, parts: list[Any]) -> Written:
        given = tuple(parts[0] or ())
        return _node("listed", given, given[0].at if given else 1)

    def arguments(self, parts: list[Any]) -> Any:
        return tuple(parts)

    def name(self, parts: list[Any]) -> Written:
        return _node("name", (), _column(parts[0]), str(parts[0]))

    def literal(self, parts: list[Any]) -> Written:
        token = parts[0]
        return _node("literal", (), _column(token), _value(token))


def _value(token: Token) -> Any:
    at = _column(token)
    match token.type:
        case "TRUE" | "FALSE":
            return token.type == "TRUE"
        case "NULL":
            return None
        case "RAW":
            return str(token)[2:-1]
        case "STRING":
            return _unescaped(str(token)[1:-1], at)
        case _:
            number = float(int(token, 16)) if token[:2] in ("0x", "0X") else float(token)
            if not math.isfinite(number):
                raise RuleError(f"column {at}: the number is too large")
            return number


def _unescaped(text: str, at: int) -> str:
    def one(found: re.Match[str]) -> str:
        simple, *codes, octal, other = found.groups()
        if simple is not None:
            return _SIMPLE.get(simple, simple)
        code = next((int(digits, 16) for digits in codes if digits is not None), None)
        code = int(octal, 8) if octal is not None else code
        if other is not None or code is None or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise RuleError(f"column {at}: the text has an escape that CEL does not know: write a backslash as \\\\")
        return chr(code)

    return _ESCAPE.sub(one, text)


def _complaint(error: UnexpectedInput, when: str) -> str:
    """Return one line that says where the text is no condition, and how to write it."""
    if isinstance(error, UnexpectedEOF) or (isinstance(error, UnexpectedToken) and error.token.type == "$END"):
        return f"column {len(when) + 1}: the condition ends too early: complete it, or close a bracket"
    at = int(error.pos_in_stream or 0)
    rest = when[at:]
    found = rest[0] if isinstance(error, UnexpectedCharacters) else str(error.token) if isinstance(error, UnexpectedToken) else rest[:1]
    if found in ('"', "'"):
        remedy = "close the text with the same quote"
    elif rest.startswith("="):
        remedy = "write == to compare"
    elif rest.startswith("&") or rest.startswith("|"):
        remedy = f"write {rest[0] * 2}"
    elif found in _WORDS:
        remedy = f"write {_WORDS[found]}"
    elif (earlier := re.search(r"\b(and|AND|or|OR|not|NOT|is|like)\s+$", when[:at])) is not None:
        remedy = f"write {_WORDS[earlier[1]]} instead of {earlier[1]}"
    else:
        remedy = 'write a condition such as item.price < 20.0 && "toys" in item.categories'
    shown = found if len(found) <= 40 else f"{found[:40]}…"
    return f"column {at + 1}: {shown!r} does not fit here: {remedy}"

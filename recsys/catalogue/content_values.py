"""Give what items say of themselves columns of the content features. Distinct values never share a column.

A value is one text of a part: a category, an era, or an attribute. At most `MAX_COLUMNS` values have a column: those of most items, of
equal ones the first by name. An attribute value that a single item has needs none, for it is equal to no other. An attribute of which
hardly any item shares its value with another item, such as an ISBN, is an identifier: it says nothing about which items are alike, and
takes no part at all. What a value, an attribute and an item count for depends on the items alone, not on the order in which they come.

Memory: some 300 bytes for each distinct value, of at most `MAX_VALUES` of each part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, nsmallest

import numpy as np

MAX_COLUMNS = 512
IDENTIFIER_ITEMS = 100
"""An attribute of fewer items is never an identifier: too few to say."""
IDENTIFIER_SHARED = 0.1
"""Share of the items with an attribute that must have their value in common with another item, else it is an identifier."""
MAX_VALUES = 200_000
"""Distinct values of one part that are counted, 60 MB. Further ones are equal to nothing."""
ALONE = -1
"""Stands for a value that no other item has."""
_NOBODY = -1
_NONE = -1
CATEGORY, ERA = "category", "era"
IS = "\x1f"
"""Stands between the name and the text of a value: no name has it, so that distinct values have distinct words."""
ERA_REACH = 0.75
"""Reach of an era: the next one counts exp(−1/0.75) as much."""
ERA_REACHED = 2
"""Eras before and after its own that an item reaches into."""
REACH = np.exp(-np.abs(np.arange(-ERA_REACHED, ERA_REACHED + 1)) / ERA_REACH)
"""Weights of the eras that an item reaches into, oldest first."""
_ERA_WEIGHTS = (REACH / np.linalg.norm(REACH)).tolist()


@dataclass(slots=True)
class _Part:
    """A kind of value. `n_items` say something of it, `n_alone` of its `n_values` belong to a single item."""

    key: tuple[str, str]
    n_items: int = 0
    n_values: int = 0
    n_alone: int = 0
    is_left_out: bool = False

    @property
    def is_identifier(self) -> bool:
        """Return whether hardly any item shares its value with another."""
        is_attribute = self.key[0] not in (CATEGORY, ERA)
        return is_attribute and self.n_items >= IDENTIFIER_ITEMS and self.n_items - self.n_alone < IDENTIFIER_SHARED * self.n_items


@dataclass(slots=True)
class _Value:
    """One value; `owner` is the only item that has it, where that item's description does not name it yet."""

    part: int
    text: str
    count: int = 0
    owner: int = _NOBODY
    column: int = _NONE


@dataclass(frozen=True, slots=True)
class Said:
    """Holds what an item says, by value numbers: its categories, the eras that it reaches into, and (attribute, value or ALONE)."""

    categories: tuple[int, ...] = ()
    eras: tuple[int, ...] = ()
    attributes: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Names of attributes that are identifiers, and by part the number of values for which there is no column."""

    identifiers: tuple[str, ...] = ()
    without_column: Mapping[str, int] = field(default_factory=dict)


class ContentValues:
    """Assigns numbers to the values that items say, counts them, and gives columns to the most frequent."""

    def __init__(self) -> None:
        self._parts: list[_Part] = []
        self._part_numbers: dict[tuple[str, str], int] = {}
        self._values: list[_Value | None] = []
        self._numbers: dict[tuple[int, str], int] = {}
        self._free_numbers: list[int] = []
        self._alone: dict[int, tuple[int, ...]] = {}
        self._columns: list[int] = []
        self._n_columns = 0
        self._touched: set[int] = set()
        self._is_crowded = False
        self._is_stale = False
        self.left_out = LeftOut()

    def take(
        self, item: int, categories: Iterable[str], eras: Iterable[int], attributes: Mapping[str, str]
    ) -> tuple[Said, list[tuple[int, int, int]]]:
        """Count what an item says. Return it, and of other items (item, attribute, value) what they no longer have alone."""
        shared: list[tuple[int, int, int]] = []
        alone: list[int] = []
        said: list[tuple[int, int]] = []
        for name, text in attributes.items():
            part = self._part(("attribute", name))
            self._parts[part].n_items += 1
            number = self._count(part, text)
            if number != ALONE:
                value = self._value(number)
                if value.count == 1:
                    value.owner = item
                    alone.append(number)
                    number = ALONE
                elif value.owner != _NOBODY:
                    shared.append((value.owner, part, number))
                    rest = tuple(n for n in self._alone.pop(value.owner) if n != number)
                    if rest:
                        self._alone[value.owner] = rest
                    value.owner = _NOBODY
            said.append((part, number))
        if alone:
            self._alone[item] = tuple(alone)
        named = tuple(self._named((CATEGORY, ""), dict.fromkeys(categories)))
        reached = tuple(self._named((ERA, ""), map(str, eras)))
        return Said(named, reached, tuple(said)), shared

    def _named(self, key: tuple[str, str], texts: Iterable[str]) -> Iterable[int]:
        for text in texts:
            part = self._part(key)
            self._parts[part].n_items += 1
            yield self._count(part, text)

    def release(self, item: int, said: Said) -> None:
        """Count what an item said no longer."""
        for part, number in said.attributes:
            self._drop(part, number)
        for number in self._alone.pop(item, ()):
            self._discount(number)
        for numbers, key in ((said.categories, (CATEGORY, "")), (said.eras, (ERA, ""))):
            for number in numbers:
                self._drop(self._part_numbers[key], number)

    def _drop(self, part: int, number: int) -> None:
        self._parts[part].n_items -= 1
        self._touched.add(part)
        if number != ALONE:
            self._discount(number)

    def _part(self, key: tuple[str, str]) -> int:
        number = self._part_numbers.get(key)
        if number is None:
            number = self._part_numbers[key] = len(self._parts)
            self._parts.append(_Part(key))
        return number

    def _count(self, part: int, text: str) -> int:
        """Count a value of one more item and return its number; ALONE where it can not be counted."""
        held = self._parts[part]
        self._touched.add(part)
        number = self._numbers.get((part, text))
        if number is None:
            if held.n_values >= MAX_VALUES:
                return ALONE
            number = self._free_numbers.pop() if self._free_numbers else len(self._values)
            if number == len(self._values):
                self._values.append(None)
            self._numbers[part, text] = number
            self._values[number] = _Value(part, text)
            held.n_values += 1
        value = self._value(number)
        value.count += 1
        held.n_alone += (value.count == 1) - (value.count == 2)
        self._is_stale |= self._is_crowded
        if value.column == _NONE and self._is_wanted(value):
            # other items that name it would have to be written again
            is_new = value.count == 1 or (value.count == 2 and value.owner != _NOBODY)
            if is_new and (self._columns or self._n_columns < MAX_COLUMNS):
                value.column = self._take_column()
            else:
                self._is_stale = True
        return number

    def _discount(self, number: int) -> None:
        value = self._value(number)
        held = self._parts[value.part]
        value.count -= 1
        held.n_alone += (value.count == 1) - (value.count == 0)
        self._is_stale |= self._is_crowded or (value.column != _NONE and not self._is_wanted(value))
        if value.count == 0:
            held.n_values -= 1
            del self._numbers[value.part, value.text]
            self._values[number] = None
            self._free_numbers.append(number)
            if value.column != _NONE:
                heappush(self._columns, value.column)

    def _value(self, number: int) -> _Value:
        value = self._values[number]
        assert value is not None
        return value

    def _is_wanted(self, value: _Value) -> bool:
        part = self._parts[value.part]
        return not part.is_left_out and value.count >= (1 if part.key[0] in (CATEGORY, ERA) else 2)

    def _take_column(self) -> int:
        if self._columns:
            return heappop(self._columns)
        self._n_columns += 1
        return self._n_columns - 1

    def settle(self) -> tuple[set[int], set[int]]:
        """Decide which attributes are identifiers and which values have a column; return the parts and the values that this changes."""
        parts = {part for part in self._touched if self._parts[part].is_identifier != self._parts[part].is_left_out}
        for part in parts:
            self._parts[part].is_left_out = not self._parts[part].is_left_out
        self._touched.clear()
        values: set[int] = set()
        if parts or self._is_stale:
            values = self._choose()
            self._is_stale = False
        return parts, values

    def _choose(self) -> set[int]:
        """Give the columns to the most frequent values; return the values that had one or get one."""
        wanted = [number for number, value in enumerate(self._values) if value is not None and self._is_wanted(value)]
        chosen = wanted if len(wanted) <= MAX_COLUMNS else nsmallest(MAX_COLUMNS, wanted, key=self._precedence)
        kept, changed = set(chosen), set()
        for number, value in enumerate(self._values):
            if value is not None and value.column != _NONE and number not in kept:
                self._columns.append(value.column)
                value.column = _NONE
                changed.add(number)
        heapify(self._columns)
        for number in chosen:
            if self._value(number).column == _NONE:
                self._value(number).column = self._take_column()
                changed.add(number)
        self._is_crowded = len(wanted) > len(chosen)
        without: dict[str, int] = {}
        for number in wanted if self._is_crowded else ():
            if number not in kept:
                name = self._name(self._value(number).part)
                without[name] = without.get(name, 0) + 1
        identifiers = sorted(part.key[1] for part in self._parts if part.is_left_out)
        self.left_out = LeftOut(tuple(identifiers), dict(sorted(without.items())))
        return changed

    def _precedence(self, number: int) -> tuple[int, tuple[str, str], str]:
        value = self._value(number)
        return -value.count, self._parts[value.part].key, value.text

    def _name(self, part: int) -> str:
        kind, name = self._parts[part].key
        return name if kind == "attribute" else {CATEGORY: "categories", ERA: "eras"}[kind]

    def counted(self, attributes: Sequence[tuple[int, int]]) -> list[int]:
        """Return the values of the attributes that are no identifiers, ALONE among them."""
        return [value for part, value in attributes if not self._parts[part].is_left_out]

    def words(self, item: int, said: Said) -> list[tuple[str, float]]:
        """Return what an item says as (value, weight): `category`, `era` or `attribute.` and its name, then `IS` and the text. The weights
        of categories, of eras and of attributes have unit length. Identifiers take no part."""
        found: list[tuple[str, float]] = []
        counted = [(part, value) for part, value in said.attributes if not self._parts[part].is_left_out]
        alone = [number for number in self._alone.get(item, ()) if not self._parts[self._value(number).part].is_left_out]
        attributes = [*(value for _, value in counted if value != ALONE), *alone]
        for numbers, length in ((said.categories, len(said.categories)), (tuple(attributes), len(counted))):
            found += [(self._word(number), length**-0.5) for number in numbers]
        if said.eras:
            found += zip(map(self._word, said.eras), _ERA_WEIGHTS, strict=True)
        return found

    def _word(self, number: int) -> str:
        value = self._value(number)
        kind, name = self._parts[value.part].key
        return f"{kind}.{name}{IS}{value.text}" if name else f"{kind}{IS}{value.text}"

    def column(self, number: int) -> int:
        """Return the column of a value, −1 for none."""
        value = None if number == ALONE else self._values[number]
        return _NONE if value is None else value.column

    def count(self, number: int) -> int:
        """Return how many items have a value."""
        value = None if number == ALONE else self._values[number]
        return 1 if value is None else value.count

    def column_of_category(self, text: str) -> int:
        """Return the column of a category, −1 for none."""
        number = self._numbers.get((self._part_numbers.get((CATEGORY, ""), _NONE), text))
        return _NONE if number is None else self.column(number)

"""The one place where commands turn data into what a terminal shows.

A string that reaches a `DataConsole` is text: never markup, an emoji code, a hyperlink or a control sequence. Only a `Text` that this
package made itself carries a style. Values are never cut, and what may be copied (ids, places, versions) is never broken over lines: a
table that would have to do so is printed as one block of lines for each row.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from workers.runtime.text import visible

MIN_FOLDED_WIDTH = 16
"""Columns that a folded cell gets at least; in fewer, words stand one under another."""

Cell = str | Text | list[str]
"""What a cell holds: data, text that this package has styled, or several values, each of which gets a line of its own."""


class DataConsole(Console):
    """A console for which every string is data."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, *, style: Any = "", justify: Any = None, overflow: Any = None, **_: Any) -> Text:
        """Return the text as it is, with what cannot be seen made visible. Rich calls this for every string that it prints."""
        return Text(visible(text), style=style, justify=justify, overflow=overflow)


def print_line(console: Console, text: str | Text, style: str | None = None) -> None:
    """Print one line that is never folded."""
    console.print(text, style=style, soft_wrap=True)


def print_rows(
    console: Console, columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, folding: Collection[str] = (), title: str | None = None
) -> None:
    """Print rows as a table, or as blocks of lines where the table is wider than the console.

    `folding` names the columns of prose, which may be folded; the others keep their full width.
    """
    cells = [[visible_cell(cell) for cell in row] for row in rows]
    widths = [max([cell_len(name), *(_width(row[at]) for row in cells)]) for at, name in enumerate(columns)]
    least = [min(width, MIN_FOLDED_WIDTH) if name in folding else width for name, width in zip(columns, widths, strict=True)]
    frame = 3 * len(columns) - 1  # borders and the blanks beside them
    if sum(least) + frame <= console.width:
        console.print(_table(columns, cells, least, folding, title))
    else:
        _print_blocks(console, columns, cells, title)


def visible_cell(cell: Cell) -> Text:
    """Return a cell with what cannot be seen made visible, its style kept."""
    if isinstance(cell, list):
        return Text("\n".join(visible(part) for part in cell))
    return Text(visible(cell.plain), style=cell.style) if isinstance(cell, Text) else Text(visible(cell))


def _width(cell: Text) -> int:
    return max(cell_len(line) for line in cell.plain.split("\n"))


def _table(
    columns: Sequence[str], cells: Sequence[Sequence[Text]], least: Sequence[int], folding: Collection[str], title: str | None
) -> Table:
    made = Table(title=None if title is None else Text(visible(title)), title_justify="left", header_style="bold", pad_edge=False)
    for name, width in zip(columns, least, strict=True):
        made.add_column(Text(name), overflow="fold", no_wrap=name not in folding, min_width=width)
    for row in cells:
        made.add_row(*row)
    return made


def _print_blocks(console: Console, columns: Sequence[str], cells: Sequence[Sequence[Text]], title: str | None) -> None:
    if title is not None:
        print_line(console, Text(visible(title), style="italic"))
    width = max(len(name) for name in columns)
    for at, row in enumerate(cells):
        if at:
            console.print()
        for name, cell in zip(columns, row, strict=True):
            for place, line in enumerate(cell.split("\n") if cell.plain else ()):
                print_line(console, Text.assemble((f"{'' if place else name:<{width}}", "bold"), "  ", line))

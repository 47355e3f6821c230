"""Names of the rows of items. This module imports nothing, so that a program which reads other rows needs no compiled functions."""

RowId = tuple[str, int | str, int]
"""("c", epoch, item number), or ("pop", window, span)."""
Span = tuple[str, int | str, int]
"""("c", epoch, −1), or ("pop", window, span), which is the same row in each group."""

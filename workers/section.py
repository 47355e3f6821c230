"""Base class and types of the sections of the settings."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]


class Section(BaseModel):
    """One section of the settings; the docstrings of its fields are the documentation of the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, defer_build=True)


def docstrings_of(section: type[BaseModel]) -> dict[str, str]:
    """Return field ▸ its docstring, of a section and its bases. Reading their source at import would take a quarter of a second."""
    import ast
    import inspect
    import textwrap

    found: dict[str, str] = {}
    for base in reversed(section.__mro__):
        if not issubclass(base, BaseModel) or base in (BaseModel, Section):
            continue
        (defined,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(defined, ast.ClassDef)
        for field, after in pairwise(defined.body):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(after, ast.Expr):
                text = after.value
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found[field.target.id] = inspect.cleandoc(text.value)
    return found

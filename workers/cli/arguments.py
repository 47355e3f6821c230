"""Declares the arguments that are ids or versions, and explains how to pass one that begins with a dash."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from workers.settings import Settings


def checked_id(value: str | None) -> str | None:
    """Return an id that a record may carry. Raises BadParameter (exit code 2) for any other: nothing can be known of it."""
    if value is None:
        return None
    from pydantic import TypeAdapter, ValidationError

    from schemas.fields import Id

    try:
        return TypeAdapter(Id).validate_python(value)
    except (ValidationError, UnicodeError):
        raise typer.BadParameter("an id has 1 to 128 bytes of UTF-8 and no control characters") from None


def refuse_ids_of_no_user(user_ids: Sequence[str], chosen: Settings) -> None:
    """Refuse ids that are reserved for lists of no user: workers would refuse the records. Raises BadParameter (exit code 2)."""
    from workers.kafka.placement import is_reserved

    for user_id in user_ids:
        if is_reserved(user_id, chosen.lists):
            prefix = chosen.lists.shared_prefix
            raise typer.BadParameter(f"{user_id}: ids that begin with {prefix} are of lists that belong to no user (lists.shared_prefix)")


def checked_text(value: str | None) -> str | None:
    """Return an argument that is valid Unicode. Raises BadParameter for bytes that the shell's encoding does not read."""
    if value is not None and not value.isascii():
        try:
            value.encode()
        except UnicodeError:
            raise typer.BadParameter("it is not valid UTF-8") from None
    return value


def checked_texts(values: list[str] | None) -> list[str] | None:
    """Return arguments of an option that may be repeated, each checked as `checked_text` does."""
    return None if values is None else [text for value in values if (text := checked_text(value)) is not None]


UserId = Annotated[str, typer.Argument(metavar="USER", callback=checked_id)]
ItemId = Annotated[str, typer.Argument(metavar="ITEM", callback=checked_id)]


def dash_hint(error: Any, arguments: Sequence[str]) -> str:
    """Return how to pass a positional value that begins with a dash, if this usage error may come from one, else nothing."""
    option = getattr(error, "option_name", None)
    command = getattr(getattr(error, "ctx", None), "command", None)
    if option is None or not any(map(_takes_text, getattr(command, "params", ()))):
        return ""
    at = next((place for place, argument in enumerate(arguments) if argument.startswith(option)), None)
    if at is None or "--" in arguments[:at]:
        return ""
    line = [*arguments[:at], *arguments[at + 1 :], "--", arguments[at]]
    return f"; a value that begins with - goes after --: `recsys {' '.join(map(shlex.quote, line))}`"


def _takes_text(parameter: Any) -> bool:
    annotation = getattr(getattr(parameter, "type_descriptor", None), "annotation", str)
    return parameter.param_type_name == "argument" and annotation is not int

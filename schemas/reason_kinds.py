"""Kinds of reasons that a list gives for an item. This module imports no validators: settings name the kinds, too."""

from typing import Final, Literal, get_args

ReasonKind = Literal["because", "people_like_you", "bought_together", "again", "profile", "new_in", "popular_now"]
REASON_KINDS: Final[tuple[ReasonKind, ...]] = get_args(ReasonKind)

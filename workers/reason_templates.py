"""Templates of sentences that say why an item is listed: which placeholders they may have, those that are built in, how they are filled.

A template is text with the placeholders `{item}`, `{items}` and `{category}`; a brace that stands for itself is doubled. Nothing else is
interpreted, in templates or in what fills them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from schemas.reason_kinds import REASON_KINDS

PLACEHOLDERS: Final = ("item", "items", "category")
AND: Final = "and"
"""Beside the kinds of reasons a language has this: what stands between two items in `{items}`."""
_PIECES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
MAX_CHARS = 500

BUILT_IN: Final[Mapping[str, Mapping[str, Sequence[str]]]] = {
    "en": {
        "because": ("Because you chose {item} (same {category})", "Because you chose {items}", "Because of what you chose"),
        "people_like_you": ("People like you chose this",),
        "bought_together": ("Often bought together with {item}", "Often bought together with what you bought"),
        "again": ("Again, as you like it",),
        "profile": ("Because you like {category}", "Because of your profile"),
        "new_in": ("New in {category}", "New"),
        "popular_now": ("Popular now",),
        AND: (" and ",),
    },
    "de": {
        "because": ("Weil du {item} gewählt hast (ebenfalls {category})", "Weil du {items} gewählt hast", "Passend zu deiner Auswahl"),
        "people_like_you": ("Das haben Leute wie du gewählt",),
        "bought_together": ("Wird oft zusammen mit {item} gekauft", "Wird oft zu deinen Käufen gekauft"),
        "again": ("Gerne wieder",),
        "profile": ("Weil du {category} magst", "Passend zu deinem Profil"),
        "new_in": ("Neu in {category}", "Neu"),
        "popular_now": ("Gerade beliebt",),
        AND: (" und ",),
    },
    "zh": {
        "because": ("因为你选择了{item}（同样的{category}）", "因为你选择了{items}", "根据你的选择"),
        "people_like_you": ("与你相似的人也选择了它",),
        "bought_together": ("经常与{item}一起购买", "经常与你购买的商品一起购买"),
        "again": ("再来一次",),
        "profile": ("因为你喜欢{category}", "根据你的资料"),
        "new_in": ("{category}新品", "新品"),
        "popular_now": ("正在流行",),
        AND: ("和",),
    },
}
"""Language ▸ kind ▸ templates, of which the first counts whose placeholders can all be filled."""


def filled(template: str, values: Mapping[str, str]) -> str | None:
    """Return the template with its placeholders replaced; None if one of them has no value. A value is never read as a template."""
    missing = False

    def put(piece: re.Match[str]) -> str:
        nonlocal missing
        name = piece[1]
        if name is None:
            return piece[0][0]
        missing = missing or name not in values
        return values.get(name, "")

    text = _PIECES.sub(put, template)
    return None if missing else text


def checked_template(template: str) -> str:
    """Return a template that can be filled. Raises ValueError, which names the placeholder."""
    for piece in _PIECES.finditer(template):
        if piece[0] in ("{", "}"):
            raise ValueError(f"a single {piece[0]}: write {piece[0] * 2} for a brace that stands for itself")
        if piece[1] is not None and piece[1] not in PLACEHOLDERS:
            raise ValueError(f"{{{piece[1][:40]}}} is no placeholder: there are {', '.join(f'{{{name}}}' for name in PLACEHOLDERS)}")
    return template


def _checked_language(language: str) -> str:
    if not _LANGUAGE.fullmatch(language):
        raise ValueError(f"{language[:40]!r} is no language: write a tag such as en, de or pt-BR")
    return language


def _checked_kind(kind: str) -> str:
    if kind not in (*REASON_KINDS, AND):
        raise ValueError(f"{kind[:40]!r} is no kind of reason: there are {', '.join((*REASON_KINDS, AND))}")
    return kind


def _one_or_several(given: object) -> object:
    return (given,) if isinstance(given, str) else given


Template = Annotated[str, Field(min_length=1, max_length=MAX_CHARS), AfterValidator(checked_template)]
Templates = Annotated[
    dict[
        Annotated[str, AfterValidator(_checked_language)],
        dict[
            Annotated[str, AfterValidator(_checked_kind)],
            Annotated[tuple[Template, ...], Field(min_length=1, max_length=8), BeforeValidator(_one_or_several)],
        ],
    ],
    Field(max_length=64),
]
"""Language ▸ kind ▸ a template, or several of which the first counts that can be filled."""


def templates_of(language: str, own: Mapping[str, Mapping[str, str | Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """Return the templates of a language by kind: those built in, replaced by `own`. A tag such as `de-AT` falls back to `de`. Raises
    ValueError for a language that has none."""
    found: dict[str, tuple[str, ...]] = {}
    for tag in dict.fromkeys((language.partition("-")[0], language)):
        for kind, given in {**BUILT_IN.get(tag, {}), **own.get(tag, {})}.items():
            found[kind] = (given,) if isinstance(given, str) else tuple(given)
    if not found:
        known = sorted({*BUILT_IN, *own})
        raise ValueError(f"there are no sentences in {language[:40]!r}: choose one of {', '.join(known)}, or add lists.reason_templates")
    return found

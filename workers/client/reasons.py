"""Sentences that say why items are listed, for programs that show lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.lists import Recommendations, RecommendedItem
from workers.reason_templates import AND, filled, templates_of

NAMED_ITEMS = 2
"""Own items that a sentence names at most."""


def reason_sentences(
    record: Recommendations,
    titles: Mapping[str, str],
    language: str = "en",
    own_templates: Mapping[str, Mapping[str, str | Sequence[str]]] | None = None,
) -> list[str]:
    """Return a sentence for each item of a list, in its order; an empty one where the record gives no reason.

    `titles` by item id are for the own items that reasons name: an item without one is called by its id. `own_templates` are those of the
    setting `lists.reason_templates`. Titles and categories are put in as they are: escape the sentence where you show it, as all data.
    Raises ValueError for a language without templates.
    """
    templates = templates_of(language, own_templates or {})
    return [_sentence(item, titles, templates) for item in record.items]


def _sentence(item: RecommendedItem, titles: Mapping[str, str], templates: Mapping[str, Sequence[str]]) -> str:
    if item.reason is None:
        return ""
    values = {}
    named = [titles.get(item_id) or item_id for item_id in item.because[:NAMED_ITEMS]]
    if named:
        values = {"item": named[0], "items": templates.get(AND, (", ",))[0].join(named)}
    if item.reason_category is not None:
        values["category"] = item.reason_category
    for template in templates.get(item.reason, ()):
        text = filled(template, values)
        if text is not None:
            return text
    return ""

"""Read published lists and the rows of pages from another program.

    from workers.client import ListReader

    reader = ListReader(bootstrap_servers="127.0.0.1:9092")
    page = reader.newest("u1")
    for row in page.rows if page else ():
        print(row.title, row.category or row.item_id or "", [item.item_id for item in row.items])
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from schemas import Recommendations
from workers.settings import Settings, load_settings


class ListReader:
    """Reads the recommendations topic and changes nothing. It needs the right to read the topic, and joins no consumer group.

    `settings` default to environment and TOML; `bootstrap_servers` overrides their Kafka address.
    """

    def __init__(self, settings: Settings | None = None, *, bootstrap_servers: str | None = None) -> None:
        settings = load_settings() if settings is None else settings
        if bootstrap_servers is not None:
            settings = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"bootstrap_servers": bootstrap_servers})})
        self.settings = settings

    def newest(self, user_id: str) -> Recommendations | None:
        """Return the newest list of a user, with the rows of their page, or None if there is none or it was removed.

        Reads the user's partition from its end backwards: for a page in a shop `follow` the topic into a cache instead. Raises Transient
        when no broker answers, Fatal when the topic is missing or has another number of partitions than the settings say.
        """
        from workers.lists.reader import newest_list

        return newest_list(self.settings, user_id)

    def follow(
        self, *, from_start: bool = False, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[tuple[str, Recommendations | None]]:
        """Yield (user id, list or None for a removal) as they are published, from now on or from the oldest, until `stop` says so."""
        from workers.lists.reader import follow_lists

        return follow_lists(self.settings, from_start=from_start, stop=stop)

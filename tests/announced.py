"""The models that the topic announces."""

from __future__ import annotations

from schemas import ModelAnnouncement
from workers.models.announcements import newest_announcements
from workers.settings import Settings


async def last_announcements(settings: Settings) -> dict[str, ModelAnnouncement]:
    """Return kind ▸ the newest announcement on the topic, without retired kinds. Raises Transient."""
    return {kind: announcement for kind, announcement in (await newest_announcements(settings)).items() if announcement is not None}

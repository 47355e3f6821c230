"""Shows settings without their secrets."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from workers.settings import Settings

MASK = "********"


def masked(chosen: Settings) -> dict[str, dict[str, Any]]:
    """Return settings by section, as JSON values; of a URL with a password only the password is masked."""
    values: dict[str, dict[str, Any]] = chosen.model_dump(mode="json")
    for section, fields in values.items():
        for name, value in fields.items():
            secret = getattr(getattr(chosen, section), name)
            if hasattr(secret, "get_secret_value"):
                fields[name] = _masked_url(secret.get_secret_value()) if name.endswith("url") else MASK
            elif name.endswith("url") and isinstance(value, str):
                fields[name] = _masked_url(value)
    return values


def _masked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return MASK
    user = f"{parts.username or ''}:{MASK}@" if parts.password else f"{parts.username}@" if parts.username else ""
    query = MASK if parts.query else ""
    return urlunsplit((parts.scheme, f"{user}{host}{port}", parts.path, query, "")) if parts.scheme else url

"""The parts of a gateway, which its routes share."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from schemas.decoding import decode_key
from schemas.errors import Poison
from workers.runtime.status import WorkerStatus
from workers.settings import Settings
from workers.web.access import Clients
from workers.web.bridge import Bridge
from workers.web.explainer import Explainer
from workers.web.gateway_metrics import GatewayMetrics
from workers.web.on_request import ListsOnRequest
from workers.web.problems import wrong
from workers.web.published import PublishedLists
from workers.web.related_items import RelatedItems


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of one gateway. Tests put fakes in the place of what needs Kafka or Redis."""

    settings: Settings
    clients: Clients
    metrics: GatewayMetrics
    status: WorkerStatus
    published: PublishedLists
    related: RelatedItems
    bridge: Bridge
    lists: ListsOnRequest
    explainer: Explainer


def checked_id(field: str, encoded: str) -> str:
    """Return an id of a path, which is percent-encoded as it was sent. Raises Problem."""
    return checked_id_bytes(field, unquote_to_bytes(encoded))


def checked_id_bytes(field: str, raw: bytes) -> str:
    """Return an id. Raises Problem for what events could not have as an id either."""
    try:
        return decode_key(raw)
    except Poison:
        raise wrong(field, "not an id; send 1 to 128 bytes of UTF-8 without control characters, percent-encoded in a path") from None

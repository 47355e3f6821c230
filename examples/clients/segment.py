"""Turn messages of Segment (a webhook of `track` calls) into events for `POST /v1/events` of the gateway."""

from datetime import datetime
from typing import Any

TYPES = {
    "Product Viewed": "view",
    "Product Clicked": "click",
    "Product Added": "add_to_cart",
    "Product Added to Wishlist": "like",
    "Product Shared": "share",
    "Order Completed": "purchase",
}
"""Names of Segment's e-commerce spec; add your own. Messages of other names are no events."""


def to_events(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the events of one message: one, or one for each product of an order; none for a message of another kind."""
    kind = TYPES.get(message.get("event", "")) if message.get("type") == "track" else None
    if kind is None:
        return []
    properties = message.get("properties", {})
    products = properties.get("products", [properties])
    at = datetime.fromisoformat(message["timestamp"].replace("Z", "+00:00"))
    return [
        {
            # the same when Segment sends the message again, and another one for each product
            "event_id": f"{message['messageId']}:{place}" if len(products) > 1 else message["messageId"],
            "user_id": message.get("userId") or message["anonymousId"],
            "item_id": product["product_id"],
            "type": kind,
            "event_ts_ms": int(at.timestamp() * 1000),
        }
        for place, product in enumerate(products)
        if product.get("product_id")
    ]

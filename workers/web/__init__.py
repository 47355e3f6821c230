"""The HTTP gateway: published lists, lists on request, lists of items, and a bridge for events into Kafka."""

"""Publish one event with confluent-kafka, or any other client of librdkafka: python publish_librdkafka.py USER ITEM TYPE"""

import json
import os
import sys
import time
import uuid
from typing import Any

from confluent_kafka import Producer

producer = Producer(
    {
        "bootstrap.servers": os.environ.get("BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
        "partitioner": "murmur2_random",  # its own default is another one, and such events become dead letters
        "acks": "all",
        "enable.idempotence": True,
    }
)


def report(error: Any, message: Any) -> None:
    if error is not None:
        sys.exit(f"not delivered: {error}")


def publish(user_id: str, item_id: str, kind: str) -> None:
    event = {
        "event_id": str(uuid.uuid4()),
        "user_id": user_id,
        "item_id": item_id,
        "type": kind,
        "event_ts_ms": time.time_ns() // 1_000_000,
    }
    topic = os.environ.get("EVENTS_TOPIC", "recsys.events")
    producer.produce(topic, key=user_id.encode(), value=json.dumps(event).encode(), on_delivery=report)
    producer.flush(30)


publish(*sys.argv[1:4])

"""Publish one event with kafka-python: python publish.py USER ITEM TYPE"""

import json
import os
import sys
import time
import uuid

from kafka import KafkaProducer

producer = KafkaProducer(
    bootstrap_servers=os.environ.get("BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
    acks="all",  # kafka-python partitions by murmur2 of the key, as Java does
)


def publish(user_id: str, item_id: str, kind: str) -> None:
    event = {
        "event_id": str(uuid.uuid4()),  # keep it when you send the event again: it counts once
        "user_id": user_id,
        "item_id": item_id,
        "type": kind,
        "event_ts_ms": time.time_ns() // 1_000_000,
    }
    topic = os.environ.get("EVENTS_TOPIC", "recsys.events")
    sent = producer.send(topic, key=user_id.encode(), value=json.dumps(event).encode())
    sent.get(timeout=30)  # raises what went wrong


publish(*sys.argv[1:4])
producer.close()

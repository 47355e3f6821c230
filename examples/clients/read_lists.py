"""Print each new list with kafka-python: python read_lists.py [GROUP]"""

import json
import os
import sys

from kafka import KafkaConsumer

consumer = KafkaConsumer(
    os.environ.get("LISTS_TOPIC", "recsys.recommendations"),
    bootstrap_servers=os.environ.get("BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
    group_id=sys.argv[1] if len(sys.argv) > 1 else "my-homepage",
    auto_offset_reset="earliest",  # the topic is compacted: from its start you get the newest list of every user
)
for record in consumer:
    user_id = record.key.decode()
    if record.value is None:
        print(user_id, "has no list any more", flush=True)  # merged into an account, or erased: delete yours
    else:
        print(user_id, *(item["item_id"] for item in json.loads(record.value)["items"]), flush=True)

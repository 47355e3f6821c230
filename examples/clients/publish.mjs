// Publish one event from Node: node publish.mjs USER ITEM TYPE
import { randomUUID } from "node:crypto";
import kafkajs from "kafkajs";

const { Kafka, Partitioners } = kafkajs;
const kafka = new Kafka({ brokers: (process.env.BOOTSTRAP_SERVERS ?? "127.0.0.1:9092").split(","), logLevel: 1 });
// DefaultPartitioner is murmur2 as Java computes it; LegacyPartitioner, of KafkaJS before 2, is another one.
const producer = kafka.producer({ createPartitioner: Partitioners.DefaultPartitioner });

async function publish(userId, itemId, type) {
  const event = {
    event_id: randomUUID(), // keep it when you send the event again: it counts once
    user_id: userId,
    item_id: itemId,
    type,
    event_ts_ms: Date.now(),
  };
  await producer.send({
    topic: process.env.EVENTS_TOPIC ?? "recsys.events",
    acks: -1,
    messages: [{ key: userId, value: JSON.stringify(event) }],
  });
}

await producer.connect();
await publish(...process.argv.slice(2, 5));
await producer.disconnect();

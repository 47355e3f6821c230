// Print each new list from Node: node readLists.mjs [GROUP]
import kafkajs from "kafkajs";

const kafka = new kafkajs.Kafka({ brokers: (process.env.BOOTSTRAP_SERVERS ?? "127.0.0.1:9092").split(","), logLevel: 1 });
const consumer = kafka.consumer({ groupId: process.argv[2] ?? "my-homepage" });

await consumer.connect();
// The topic is compacted: from its start you get the newest list of every user.
await consumer.subscribe({ topic: process.env.LISTS_TOPIC ?? "recsys.recommendations", fromBeginning: true });
await consumer.run({
  eachMessage: async ({ message }) => {
    const userId = message.key.toString();
    if (message.value === null) {
      console.log(userId, "has no list any more"); // merged into an account, or erased: delete yours
    } else {
      console.log(userId, ...JSON.parse(message.value).items.map((item) => item.item_id));
    }
  },
});

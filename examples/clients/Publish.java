// Publish one event from Java: java -cp 'libs/*' Publish.java USER ITEM TYPE
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

public class Publish {
    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", environment("BOOTSTRAP_SERVERS", "127.0.0.1:9092"));
        settings.put("acks", "all");
        settings.put("key.serializer", StringSerializer.class.getName());  // the key is the user id in UTF-8, without quotes
        settings.put("value.serializer", StringSerializer.class.getName());
        try (KafkaProducer<String, String> producer = new KafkaProducer<>(settings)) {
            String userId = arguments[0];
            String event = json(Map.of(
                "event_id", UUID.randomUUID().toString(),  // keep it when you send the event again: it counts once
                "user_id", userId,
                "item_id", arguments[1],
                "type", arguments[2],
                "event_ts_ms", System.currentTimeMillis()));
            producer.send(new ProducerRecord<>(environment("EVENTS_TOPIC", "recsys.events"), userId, event)).get();
        }
    }

    /** Use the JSON library of your program; this one knows texts and numbers. */
    private static String json(Map<String, Object> fields) {
        StringBuilder text = new StringBuilder("{");
        fields.forEach((name, value) -> text.append(text.length() > 1 ? "," : "").append(quoted(name)).append(":")
            .append(value instanceof Number ? value.toString() : quoted(value.toString())));
        return text.append("}").toString();
    }

    private static String quoted(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            quoted.append(c == '"' || c == '\\' ? "\\" + c : c < 0x20 ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        }
        return quoted.append("\"").toString();
    }

    private static String environment(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}

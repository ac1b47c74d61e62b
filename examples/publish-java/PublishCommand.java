import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.HexFormat;
import java.util.Map;
import java.util.Properties;
import java.util.UUID;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Defines a project: publishes the command and prints its outcome.
 *
 * <pre>
 * export SIGNALBOX_COMMAND_TOKEN=$(signalbox token create --organization default --subject billing)
 * mvn --quiet compile exec:java -Dexec.args=shop
 * </pre>
 *
 * Exits with 0 when the command was accepted, with 1 when it was rejected or no outcome came in time.
 */
public final class PublishCommand {
    private static final String KAFKA = setting("SIGNALBOX_KAFKA", "127.0.0.1:9092");
    private static final String PREFIX = setting("SIGNALBOX_KAFKA_PREFIX", "signalbox");
    private static final String ORGANIZATION = setting("SIGNALBOX_ORG", "default");
    private static final String TYPE = "io.signalbox.project.command.define.v1";
    private static final Duration PATIENCE = Duration.ofSeconds(30);

    public static void main(String[] arguments) throws Exception {
        if (arguments.length != 1) {
            System.err.println("usage: PublishCommand PROJECT");
            System.exit(3);
        }
        System.exit(defineProject(arguments[0]) ? 0 : 1);
    }

    private static boolean defineProject(String project) throws Exception {
        try (var producer = new KafkaProducer<String, String>(producerSettings());
                var outcomes = new KafkaConsumer<byte[], byte[]>(consumerSettings())) {
            goToEnd(outcomes, PREFIX + ".outcomes"); // before the command is sent, so that its outcome is not missed
            var id = UUID.randomUUID().toString();
            producer.send(command(id, project)).get(); // if you do not know whether it arrived, send it again with this id
            return report(outcomes, id);
        }
    }

    private static ProducerRecord<String, String> command(String id, String project) throws Exception {
        var data = "{\"organization\": \"%s\", \"name\": \"%s\"}".formatted(ORGANIZATION, project);
        var record = new ProducerRecord<>(PREFIX + ".commands", ORGANIZATION, data);
        Map.of(
                "ce_specversion", "1.0",
                "ce_id", id,
                "ce_type", TYPE,
                "ce_source", "/billing",
                "ce_authorization", authorization(id, TYPE, data),
                "content-type", "application/json")
            .forEach((name, value) -> record.headers().add(name, value.getBytes(StandardCharsets.UTF_8)));
        return record;
    }

    /** Binds the token to this command: whoever reads it on the topic can give no other one. */
    private static String authorization(String id, String type, String data) throws Exception {
        var token = setting("SIGNALBOX_COMMAND_TOKEN", "").split("~", 2);
        var secret = token.length == 2 && !token[1].isEmpty() ? token[1] : "none";
        var body = MessageDigest.getInstance("SHA-256").digest(data.getBytes(StandardCharsets.UTF_8));
        var subject = ""; // the attribute subject, which this command does not have
        var text = String.join("\n", "signalbox-command-v1", ORGANIZATION, id, type, subject, HexFormat.of().formatHex(body));
        var proof = Mac.getInstance("HmacSHA256");
        proof.init(new SecretKeySpec(secret.getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
        return token[0] + "~" + HexFormat.of().formatHex(proof.doFinal(text.getBytes(StandardCharsets.UTF_8)));
    }

    private static void goToEnd(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        var partitions = consumer.partitionsFor(topic).stream()
            .map(partition -> new TopicPartition(topic, partition.partition()))
            .toList();
        consumer.assign(partitions);
        consumer.seekToEnd(partitions);
        partitions.forEach(consumer::position); // seeking is lazy, reading the position is not
    }

    private static boolean report(KafkaConsumer<byte[], byte[]> outcomes, String id) {
        var deadline = System.nanoTime() + PATIENCE.toNanos();
        while (System.nanoTime() < deadline) {
            for (var outcome : outcomes.poll(Duration.ofSeconds(1))) {
                if (id.equals(header(outcome, "ce_causationid"))) {
                    var accepted = "accepted".equals(header(outcome, "ce_outcome"));
                    System.out.println(accepted
                        ? "accepted"
                        : "rejected: " + header(outcome, "ce_outcomerule") + ": " + header(outcome, "ce_outcomemessage"));
                    return accepted;
                }
            }
        }
        System.err.println("no outcome yet; to send the command again, use its id: " + id);
        return false;
    }

    private static String header(ConsumerRecord<byte[], byte[]> record, String name) {
        Header found = record.headers().lastHeader(name);
        return found == null ? "" : new String(found.value(), StandardCharsets.UTF_8);
    }

    private static Properties producerSettings() {
        var settings = connection();
        settings.put("acks", "all");
        settings.put("key.serializer", StringSerializer.class.getName());
        settings.put("value.serializer", StringSerializer.class.getName());
        return settings;
    }

    private static Properties consumerSettings() {
        var settings = connection();
        settings.put("isolation.level", "read_committed");
        settings.put("key.deserializer", ByteArrayDeserializer.class.getName());
        settings.put("value.deserializer", ByteArrayDeserializer.class.getName());
        return settings;
    }

    private static Properties connection() {
        var settings = new Properties();
        settings.put("bootstrap.servers", KAFKA);
        // TLS and SASL: "SASL_SSL" below, and for an own authority ssl.truststore.type=PEM,
        // ssl.truststore.location=ca.pem; for mutual TLS "SSL", ssl.keystore.type=PEM,
        // ssl.keystore.location=client.pem
        var mechanism = setting("SIGNALBOX_KAFKA_MECHANISM", "");
        if (!mechanism.isEmpty()) {
            var module = mechanism.equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule";
            settings.put("security.protocol", "SASL_PLAINTEXT");
            settings.put("sasl.mechanism", mechanism);
            settings.put("sasl.jaas.config", "org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s\";"
                .formatted(module, setting("SIGNALBOX_KAFKA_USERNAME", ""), setting("SIGNALBOX_KAFKA_PASSWORD", "")));
        }
        return settings;
    }

    private static String setting(String name, String otherwise) {
        return System.getenv().getOrDefault(name, otherwise);
    }
}

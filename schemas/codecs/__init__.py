"""Encodings of messages: Avro, CloudEvents over HTTP and Kafka, canonical JSON, and the AsyncAPI document."""

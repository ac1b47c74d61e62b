"""The Kafka engine: log, configuration and membership on Apache Kafka 4 through aiokafka."""

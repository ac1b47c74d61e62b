"""An Apache Kafka of one node for development."""

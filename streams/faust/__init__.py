"""Faust hosts the live read models on Kafka and the listeners that derive status messages."""

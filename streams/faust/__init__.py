"""Faust hosts the live read models on Kafka and carries what is derived from them."""

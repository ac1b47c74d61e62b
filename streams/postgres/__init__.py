"""The data of the Kafka engine in PostgreSQL besides the read models."""

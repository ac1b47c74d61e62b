"""What the Kafka engine keeps in PostgreSQL besides the read models."""

"""The local index: finding records on Kafka by id or subject."""

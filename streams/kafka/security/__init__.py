"""Signed tokens of callers, and the integrity of messages on Kafka."""

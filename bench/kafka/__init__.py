"""Benchmarks of the Kafka engine."""

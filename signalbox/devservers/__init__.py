"""Kafka and PostgreSQL servers on this machine, without Docker or root.

Each has its own directory with its data, log and settings, and ends with the process that started it.
"""

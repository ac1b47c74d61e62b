"""A real Kafka and a real PostgreSQL on this machine, without Docker or root.

Each lives in a directory of its own, with its data, its log and what it remembers, and dies with the
process that started it.
"""

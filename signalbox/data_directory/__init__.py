"""The data directory: its lock, its secrets, and the addresses that are noted there."""

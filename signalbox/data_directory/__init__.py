"""The data directory: its lock, its secrets, and the listen addresses that are stored there."""

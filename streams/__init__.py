"""The `Log` port and its engines, the decider, gateway sync, and the consumers that feed the read models."""

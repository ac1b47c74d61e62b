"""The decider: commands to events and outcomes, one writer per partition."""

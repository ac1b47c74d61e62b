"""The aggregates: commands, events and views of each."""

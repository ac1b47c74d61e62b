"""Gateway sync: events to entries of the config topic."""

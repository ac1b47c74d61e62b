"""The connection of the command line to the HTTP API."""

"""Submitting commands and waiting for their outcomes."""

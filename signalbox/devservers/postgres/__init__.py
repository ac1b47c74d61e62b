"""A PostgreSQL for development."""

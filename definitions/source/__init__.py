"""Definition files as text: documents, values with their positions, and findings."""

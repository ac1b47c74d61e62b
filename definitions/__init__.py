"""Definition files: read with findings (`definitions.reading.read`) and written again."""

"""What people write in files, read with findings and written back: `definitions.reading.read`."""

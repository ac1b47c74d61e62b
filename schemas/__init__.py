"""The messages of Signalbox: every command, event and status as a typed model, and their envelope."""

"""Checks of a data directory: at start, and by `signalbox doctor`."""

"""`signalbox doctor`."""

"""Processes, ports and limits of this machine."""

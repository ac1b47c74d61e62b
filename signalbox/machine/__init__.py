"""This machine, as far as processes, ports and limits of it matter here."""

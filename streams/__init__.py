"""The bus: the `Log` port, its engines, the decider loop, and the runners that feed the read side."""

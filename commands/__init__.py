"""The write side: one module per aggregate with `State`, `decide` and `evolve`. Pure."""

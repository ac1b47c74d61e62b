"""Benchmarks, each a module with `async def run(scale) -> list[Figure]`; `make bench` runs all of them."""

"""Benchmarks: what Sidestep does in a second, against the plainest code that could stand in its place."""

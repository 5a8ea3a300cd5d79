"""Micro-benchmarks of the library and of the experiments' networks."""

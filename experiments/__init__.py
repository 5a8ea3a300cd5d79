"""Runnable experiments, one package or file each: `python -m experiments.NAME`."""

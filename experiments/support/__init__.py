"""Shared by all experiments: command line, run directory, training loop, plots."""

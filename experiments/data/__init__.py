"""Data sets of the experiments, read from files or generated, with the baselines computed from them."""

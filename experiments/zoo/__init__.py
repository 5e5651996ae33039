"""Every cell on the same three tasks: run by `python experiments/zoo`."""

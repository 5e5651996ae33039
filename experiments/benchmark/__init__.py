"""Speed of recurrent layers beside other libraries: run by `python experiments/benchmark`."""

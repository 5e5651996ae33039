"""Weights from and to other libraries, none of which needs to be installed."""

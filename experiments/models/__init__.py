"""Models that are larger than a stack of layers."""

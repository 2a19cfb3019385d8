"""A commit becomes a signal."""

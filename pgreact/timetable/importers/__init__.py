"""Readers of other schedulers: what they have, as rows of ``pgreact.schedule``."""

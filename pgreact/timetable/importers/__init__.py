"""Importers: read the entries of other schedulers as rows of ``pgreact.schedule``, and write them."""

"""Generators of the pages below ``docs/reference``: the function ``page`` of each returns its text."""

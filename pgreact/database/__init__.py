"""Sessions with PostgreSQL, and the schema that pgreact keeps there."""

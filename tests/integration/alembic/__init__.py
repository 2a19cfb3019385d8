"""pgreact.alembic."""

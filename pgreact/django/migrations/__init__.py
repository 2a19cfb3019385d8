"""Migrations that make and upgrade pgreact's schema."""

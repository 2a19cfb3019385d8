"""``python -m pgreact``."""

from pgreact.cli import main

main()

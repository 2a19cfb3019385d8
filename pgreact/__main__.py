"""``python -m pgreact``."""

from pgreact.cli.main import main

main()

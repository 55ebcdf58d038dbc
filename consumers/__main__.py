"""``python -m consumers`` is ``goat``."""

from consumers.cli import main

main()

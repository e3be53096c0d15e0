"""The command `dropact`: one file per verb."""

from dropact.cli.main import main

__all__ = ["main"]

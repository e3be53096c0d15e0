"""Where the words of a command go."""

from rich.console import Console


def wide_console() -> Console:
    """For tables: as wide as the terminal, and 160 columns where there is none."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def plain_console() -> Console:
    """For sentences: as they are, whatever they quote, in one line each."""
    return Console(soft_wrap=True, markup=False, highlight=False)

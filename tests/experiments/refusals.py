"""How the command says no."""

from dropact.cli import main


def refused(capsys, *words):
    """The one line."""
    status = main([str(word) for word in words])
    shown = capsys.readouterr()
    assert status == 2
    assert shown.out == ""
    assert shown.err.endswith("\n")
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("dropact: ")
    assert "Traceback" not in shown.err
    return shown.err

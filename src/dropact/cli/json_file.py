"""The file of `--json`."""

from pathlib import Path
from typing import Any

from dropact.experiments.comparison import check_folder
from dropact.experiments.errors import RecordError
from dropact.experiments.files import parsed, read_text


def claim_file(path: Path, form: str) -> None:
    """Makes sure that `path` can take the record, before anything is measured; writes nothing.

    >>> claim_file(Path("not-there") / "bench.json", "dropact bench 1")
    Traceback (most recent call last):
    dropact.experiments.errors.RecordError: --json: the folder not-there is not there

    Args:
        form: the record's "format": the command that writes it, and a number.

    Raises:
        RecordError: no such folder, a directory, or a file that is not such a record.
    """
    if not path.parent.is_dir():
        what = "is not a folder" if path.parent.exists() else "is not there"
        raise RecordError(f"--json: the folder {path.parent} {what}")
    check_folder(path.parent)
    if not path.exists() and not path.is_symlink():
        return
    if not path.is_file():
        what = "a folder" if path.is_dir() else "not an ordinary file"
        raise RecordError(f"--json: {path} is {what}, accepted: the name of a file to write")
    try:
        content = parsed(dict[str, Any], read_text(path), path)
    except RecordError:
        content = {}
    if content.get("format") != form:
        raise RecordError(
            f"--json: {path} holds something other than a record of `{form.rpartition(' ')[0]}`; it was left as it is, "
            "accepted: a new name or an earlier record"
        )

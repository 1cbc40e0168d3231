"""The log of a shadow run: decisions and grades as JSON lines, and what grading has spent."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eccos_rs.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

__all__ = ["ShadowLog", "read_rows"]


class ShadowLog:
    """Appends rows; several processes may append to the same file.

    Parameters
    ----------
    path : path
        Made when it is not there.

    Raises
    ------
    InputError
        It cannot be written, or is no shadow log.
    """

    def __init__(self, path: str | PathLike[str]) -> None:
        self.path = Path(path)
        spent: dict[str, float] = {}
        torn = False
        if self.path.exists():
            for row in read_rows(self.path):
                if row["kind"] in ("judging", "judged"):
                    # What was begun and never ended counts at its most.
                    spent[str(row["id"])] = float(row["usd"])
            raw = self.path.read_bytes()[-1:]
            torn = bool(raw) and raw != b"\n"
        self.spent = sum(spent.values())
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(f"shadow log {path}: {error.strerror or error}") from error
        if torn:
            os.write(self._file, b"\n")

    def write(self, **row: Any) -> None:
        """Append a row; one write, so that rows of several processes do not mix."""
        os.write(self._file, json.dumps(row, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def read_rows(path: str | PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shadow log; a last line that was torn is left out.

    Raises
    ------
    InputError
        The file cannot be read, or a line is none of a shadow log.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise InputError(f"shadow log {path}: {error.strerror or error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if number >= len(lines) - 1:
                return
            # Torn by a kill in the middle of a run that was gone on with.
            row = None
        if row is None:
            continue
        if not isinstance(row, dict) or row.get("kind") not in ("decision", "judging", "judged"):
            raise InputError(f"{path}, line {number}: this is no shadow log of eccos serve --shadow")
        yield row

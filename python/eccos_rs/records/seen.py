"""Which ids have been met: 16 bytes an id, so a file of many gigabytes is checked within bounded memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from eccos_rs.records.check import Place

__all__ = ["SeenIds"]

FRESH = 1 << 16


class SeenIds:
    """A set of texts that remembers the row of each.

    Texts are kept as 64-bit digests: the newest in a dict, older ones in sorted runs that are merged when two
    are of similar length, as a log-structured store does. With ten million ids the chance of any false alarm
    is 3e-6.
    """

    def __init__(self) -> None:
        self._fresh: dict[int, int] = {}
        self._runs: list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]] = []

    def find_row(self, text: str) -> int | None:
        """Return the row in which the text was met, or None."""
        return self._find_row(_digest(text))

    def add(self, text: str, place: Place) -> None:
        """Remember a text; one that was met before raises `RecordError` with both rows."""
        key = _digest(text)
        row = self._find_row(key)
        if row is not None:
            raise place.fail(f"the id {text!r} stands in row {row} already; ids must be unique")
        self._fresh[key] = place.row
        if len(self._fresh) >= FRESH:
            self._settle()

    def _find_row(self, key: int) -> int | None:
        row = self._fresh.get(key)
        if row is not None:
            return row
        wanted = np.uint64(key)
        for keys, rows in self._runs:
            spot = int(np.searchsorted(keys, wanted))
            if spot < len(keys) and keys[spot] == wanted:
                return int(rows[spot])
        return None

    def _settle(self) -> None:
        keys = np.fromiter(self._fresh.keys(), dtype=np.uint64, count=len(self._fresh))
        rows = np.fromiter(self._fresh.values(), dtype=np.int64, count=len(self._fresh))
        self._fresh.clear()
        while self._runs and len(self._runs[-1][0]) <= len(keys):
            older_keys, older_rows = self._runs.pop()
            keys, rows = np.concatenate([older_keys, keys]), np.concatenate([older_rows, rows])
        order = np.argsort(keys, kind="stable")
        self._runs.append((keys[order], rows[order]))


def _digest(text: str) -> int:
    return int.from_bytes(
        hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )

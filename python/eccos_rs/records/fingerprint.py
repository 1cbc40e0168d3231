"""Which texts something was trained on, without keeping the texts: digests that can be shipped."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eccos_rs.errors import RecordError
from eccos_rs.records.grouping import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["decode_fingerprints", "encode_fingerprints", "fingerprint", "was_seen"]

# 16 hexadecimal digits of the sha256: with a million texts a false alarm has a chance of 3e-8 for each text
# asked.
DIGITS = 16


def fingerprint(text: str) -> str:
    """Return the first 16 hexadecimal digits of the sha256 of the normalised text.

    Examples
    --------
    >>> fingerprint("What is  2+2?") == fingerprint("what is 2 + 2")
    True
    """
    return hashlib.sha256(normalise(text).encode("utf-8", "surrogatepass")).hexdigest()[:DIGITS]


def encode_fingerprints(texts: Iterable[str]) -> bytes:
    """Return the file that records texts: their fingerprints in order, one per line."""
    return "".join(f"{fingerprint(text)}\n" for text in texts).encode()


def decode_fingerprints(data: bytes, name: str = "fingerprints") -> list[str]:
    """Read that file.

    Raises
    ------
    RecordError
        If a line is no fingerprint; names it.
    """
    lines = data.decode("ascii", "replace").split()
    for number, line in enumerate(lines, 1):
        if len(line) != DIGITS or not set(line) <= set("0123456789abcdef"):
            raise RecordError(f"{name}, line {number}: got {line!r}, wanted {DIGITS} hexadecimal digits")
    return lines


def was_seen(texts: Sequence[str], known: Iterable[str]) -> npt.NDArray[np.bool_]:
    """Return for each text whether its fingerprint is among the known."""
    among = frozenset(known)
    return np.fromiter((fingerprint(text) in among for text in texts), np.bool_, len(texts))

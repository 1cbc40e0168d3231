"""A view of texts by their words, beside that of the encoder: names of tools and errors, shapes of code.

Words and pairs of neighbours are hashed to a signed sketch, so that no vocabulary has to be kept or fitted
and no text can be read back as such. `benches/words.py` says where it helps.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["DIMENSION", "lexical_rows", "sketch_words"]

DIMENSION = 512
"""Of the sketch: the cosine of two unlike texts is off by some 1 / sqrt(512)."""
_MOST_WORDS = 400
"""Words that are read, half of them from the end: a long document has its question before or after it."""
_REACH = 0.5
"""A text counts for another by exp((cosine - 1) / reach)."""
_WORD = re.compile(r"\w+|[^\w\s]")


def sketch_words(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return unit vectors of the words of texts and their pairs, (N, `DIMENSION`); zero for no word."""
    made = np.zeros((len(texts), DIMENSION), dtype=np.float32)
    places: dict[str, tuple[int, float]] = {}
    for row, text in enumerate(texts):
        counts: dict[str, int] = {}
        words = _words(text)
        for term in [*words, *(f"{one} {two}" for one, two in pairwise(words))]:
            counts[term] = counts.get(term, 0) + 1
        for term, count in counts.items():
            if term not in places:
                code = crc32(term.encode("utf-8", "surrogatepass"))
                places[term] = code % DIMENSION, 1.0 if code >> 16 & 1 else -1.0
            place, sign = places[term]
            made[row, place] += sign * np.log1p(count)
    made /= np.maximum(np.linalg.norm(made, axis=1, keepdims=True), np.float32(1e-9))
    return made


def lexical_rows(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how much each labelled text counts for each text, (N, n), by their words."""
    return np.exp((np.asarray(one @ two.T, dtype=np.float64) - 1.0) / _REACH)


def _words(text: str) -> list[str]:
    # Characters are bounded before words are: a megabyte is not split for 400 of them.
    most, half = 16 * _MOST_WORDS, _MOST_WORDS // 2
    lower = text.lower() if len(text) <= most else f"{text[: most // 2]} {text[-most // 2 :]}".lower()
    words = _WORD.findall(lower)
    return words if len(words) <= _MOST_WORDS else words[:half] + words[-half:]

"""Which texts are one question: identical after normalisation, or near-identical by word triples."""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections import defaultdict, deque
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["normalise", "text_groups"]

# 16 bands of 8 rows: two texts share a band with probability 0.95 at a Jaccard similarity of 0.8,
# 0.06 at 0.5.
BANDS, ROWS = 16, 8
# Texts around one boilerplate fill a bucket; the newest are enough, for groups are closed under chains.
MOST_COMPARED = 64
PRIME = np.uint64((1 << 31) - 1)

_WORDS = re.compile(r"\w+|[+\-*/=<>^%]")


def normalise(text: str) -> str:
    r"""Return the words in lower case, compatibility forms folded, punctuation and space as one space.

    Signs that carry the meaning of a formula (+ - * / = < > ^ %) stay, for "3 + 4" is not "3 - 4".

    Examples
    --------
    >>> normalise("What  is 3+4? (A) 7")
    'what is 3 + 4 a 7'
    """
    # Bundles ship digests of this form to know what they were trained on: a change here makes them forget it.
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORDS.findall(folded))


def text_groups(texts: Sequence[str], *, threshold: float = 0.8) -> npt.NDArray[np.int64]:
    """Give a number to each group of texts that a split must not part.

    Parameters
    ----------
    texts : sequence of str, length N
        The queries.
    threshold : float, default 0.8
        Two texts belong together when the Jaccard similarity of their sets of word triples reaches this, or
        when they are equal after `normalise`. Groups are closed under chains.

    Returns
    -------
    ndarray, shape (N,), int64
        Group numbers, 0, 1, ... in the order of each group's first text.

    Notes
    -----
    Candidates come from MinHash signatures in bands [1]_ and each is checked exactly, so no pair below the
    threshold is joined; a pair at the threshold is found with probability 0.95, at 0.9 with 0.9998.

    References
    ----------
    .. [1] A. Broder, "On the resemblance and containment of documents", 1997.

    Examples
    --------
    >>> text_groups(["What is 2 + 2?", "Name a colour.", "what is  2+2"]).tolist()
    [0, 1, 0]
    """
    plain = [normalise(text) for text in texts]
    first: dict[str, int] = {}
    same = np.fromiter(
        (first.setdefault(text, index) for index, text in enumerate(plain)), np.int64, len(plain)
    )
    parent = list(range(len(plain)))
    for index, other in enumerate(same.tolist()):
        _join(parent, index, other)
    unique = sorted(first.values())
    shingles = {index: _shingles(plain[index]) for index in unique}
    for one, two in _candidates(unique, shingles):
        if _find(parent, one) != _find(parent, two) and _jaccard(shingles[one], shingles[two]) >= threshold:
            _join(parent, one, two)
    numbers: dict[int, int] = {}
    roots = (_find(parent, index) for index in range(len(plain)))
    return np.fromiter((numbers.setdefault(root, len(numbers)) for root in roots), np.int64, len(plain))


def _shingles(text: str) -> npt.NDArray[np.uint32]:
    words = text.split()
    if len(words) < 3:
        return np.array([zlib.crc32(text.encode())], dtype=np.uint32)
    triples = (" ".join(words[index : index + 3]).encode() for index in range(len(words) - 2))
    return np.unique(np.fromiter((zlib.crc32(triple) for triple in triples), np.uint32, len(words) - 2))


def _candidates(
    indices: Iterable[int], shingles: dict[int, npt.NDArray[np.uint32]]
) -> Iterator[tuple[int, int]]:
    rng = np.random.default_rng(20_502)
    factor = rng.integers(1, int(PRIME), size=(BANDS * ROWS, 1), dtype=np.uint64)
    offset = rng.integers(0, int(PRIME), size=(BANDS * ROWS, 1), dtype=np.uint64)
    buckets: defaultdict[bytes, deque[int]] = defaultdict(lambda: deque(maxlen=MOST_COMPARED))
    for index in indices:
        hashed = (factor * (shingles[index].astype(np.uint64) % PRIME) + offset) % PRIME
        signature = hashed.min(axis=1).reshape(BANDS, ROWS)
        met: set[int] = set()
        for band in range(BANDS):
            bucket = buckets[bytes([band]) + signature[band].tobytes()]
            met.update(bucket)
            bucket.append(index)
        for other in sorted(met):
            yield other, index


def _jaccard(one: npt.NDArray[np.uint32], two: npt.NDArray[np.uint32]) -> float:
    shared = len(np.intersect1d(one, two, assume_unique=True))
    return shared / (len(one) + len(two) - shared)


def _find(parent: list[int], index: int) -> int:
    while parent[index] != index:
        parent[index] = parent[parent[index]]
        index = parent[index]
    return index


def _join(parent: list[int], one: int, two: int) -> None:
    low, high = sorted((_find(parent, one), _find(parent, two)))
    parent[high] = low

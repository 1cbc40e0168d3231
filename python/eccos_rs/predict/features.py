"""Cheap text features that a graph can compute from token ids alone: a count table, one row a word piece.

The table is gathered and summed inside the exported graph, so ids and mask stay its only inputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["FEATURE_NAMES", "summarise_tokens", "token_feature_table"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Word pieces that tell something about the task. The tokeniser lowers case and splits LaTeX commands,
# so `\frac` arrives as "\", "fra", "##c" or "frac".
_GROUPS: dict[str, frozenset[str]] = {
    "latex": frozenset("\\^_~&"),
    "brace": frozenset("{}"),
    "dollar": frozenset("$"),
    "operator": frozenset("+-*/=<>×÷±≤≥"),
    "paren": frozenset("()"),
    "bracket": frozenset("[]"),
    "comma": frozenset(","),
    "period": frozenset("."),
    "question": frozenset("?"),
    "quote": frozenset("'\"`"),
    "colon": frozenset(":;"),
    "percent": frozenset("%"),
    "negation": _words("not except never false incorrect least no none neither nor cannot without"),
    "compute": _words("calculate compute find determine evaluate solve estimate simplify express"),
    "how_many": _words("many much total number sum each every per twice half times"),
    "which": _words("which following statement statements best describes true correct"),
    "what": _words("what who when where"),
    "why": _words("why because explain since therefore"),
    "prove": _words("prove proof show theorem let suppose assume given such integer integers real positive"),
    "code": _words("def return class function int print import void string null array code python program"),
    "unit": _words("cm kg km mm ft lb hz volts volt ohm ohms kw mol ° degrees joules watts meters seconds"),
    "law": _words("court defendant plaintiff statute contract law jury trial sued"),
    "person": _words("he she his her they him"),
    "latex_word": _words("frac sqrt text cd left right mathbf begin end angle triangle over ##rac ##qr ##t"),
}
_SHAPES = ("digit", "letter", "word", "continuation", "not_ascii")
_COUNTED = (*_SHAPES, *_GROUPS)

#: Columns of `summarise_tokens`: the log length, a log count and a share for each kind of word piece.
FEATURE_NAMES = ("log_length", *(f"log_{name}" for name in _COUNTED), *(f"share_{name}" for name in _COUNTED))


def token_feature_table(vocabulary: Mapping[str, int]) -> NDArray[np.float32]:
    """Say of each word piece which kinds it belongs to.

    Parameters
    ----------
    vocabulary : mapping of str to int
        Word piece to id, as a tokeniser has it; a continuation starts with ``##``.

    Returns
    -------
    ndarray of float32, shape (V, K)
        0 or 1; V is the largest id plus one, K the number of kinds. Special pieces such as ``[CLS]`` are 0.
    """
    table = np.zeros((max(vocabulary.values()) + 1, len(_COUNTED)), dtype=np.float32)
    for piece, row in vocabulary.items():
        if len(piece) > 1 and piece.startswith("[") and piece.endswith("]"):
            continue
        bare = piece[2:] if piece.startswith("##") and len(piece) > 2 else piece
        shapes = (
            bare.isdigit(),
            len(bare) == 1 and bare.isalpha() and bare.isascii(),
            len(bare) > 1 and bare.isalpha(),
            bare is not piece,
            not bare.isascii(),
        )
        table[row, : len(_SHAPES)] = shapes
        table[row, len(_SHAPES) :] = [piece in group for group in _GROUPS.values()]
    return table


def summarise_tokens(ids: Sequence[ArrayLike], table: NDArray[np.float32]) -> NDArray[np.float32]:
    """Count the kinds of word pieces in each text: the numpy twin of what the graph computes.

    Parameters
    ----------
    ids : sequence of N sequences of int
        Token ids of each text without padding, special tokens included.
    table : ndarray of float32, shape (V, K)
        From `token_feature_table`.

    Returns
    -------
    ndarray of float32, shape (N, 1 + 2 K)
        ln(length), ln(1 + count) and count / length; see `FEATURE_NAMES`.
    """
    counts = np.stack([table[np.asarray(row, dtype=np.int64)].sum(axis=0) for row in ids])
    length = np.array([[np.size(row)] for row in ids], dtype=np.float32)
    return np.concatenate([np.log(length), np.log1p(counts), counts / length], axis=1)

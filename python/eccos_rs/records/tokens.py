"""Token counts where a source has none: an estimate from the text, or a tokenizer of one's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from eccos_rs.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

__all__ = ["estimate_tokens", "token_counter"]

_PIECES = re.compile(r"[^\W\d_]+| ?\d{1,3}|[^\w\s]+|_|\n+|[^\S\n]{2,}")


def estimate_tokens(text: str) -> int:
    """Estimate how many tokens a text is for the byte-pair tokenizers of current models.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    int
        At least 1 for a text that is not empty.

    Notes
    -----
    Pieces are cut as those tokenizers cut first: words, up to three digits (a space before them is a token of
    its own), runs of signs, of line breaks and of spaces. The weights of the pieces were fitted to
    cl100k_base's counts of the questions of MMLU-Pro, GSM8K and MATH, which the estimate follows with slopes
    of 1.02 to 1.03 and correlations of 0.993 to 0.997.

    Examples
    --------
    >>> estimate_tokens("What is the capital of France?")
    7
    """
    total = sum(map(_weight, _PIECES.findall(text)))
    return max(round(total), 1) if text else 0


def _weight(piece: str) -> float:
    size = len(piece)
    if piece[0].isalpha():
        if not piece.isascii():
            return 0.9 * size
        return 1.0 if size <= 7 else 0.9 + 0.13 * (size - 7)
    if piece[-1].isdigit():
        return 2.0 if piece[0] == " " else 1.0
    return 0.8 if piece.isspace() else 0.8 + 0.3 * (size - 1)


def token_counter(tokenizer: str | PathLike[str] | None = None) -> Callable[[str], int]:
    """Return a function that counts the tokens of a text.

    Parameters
    ----------
    tokenizer : path, optional
        A `tokenizer.json`; without one, `estimate_tokens`.

    Raises
    ------
    InputError
        The file cannot be read as a tokenizer.
    """
    if tokenizer is None:
        return estimate_tokens
    from tokenizers import Tokenizer

    try:
        loaded = Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"tokenizer: {tokenizer} cannot be read as a tokenizer.json: {error}") from error
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)

"""Text to word pieces: any text, however long or malformed, at a bounded price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["InputTokenEstimate", "TextTokenizer", "Tokens"]

# Of a longer text only this many characters are tokenised; the rest is counted by its characters. It is many
# times what an encoder reads, so the ids never change.
PREFIX_CHARACTERS = 16_384


@dataclass(frozen=True, eq=False)
class Tokens:
    """The word pieces of N texts.

    Attributes
    ----------
    ids : list of N int64 ndarrays
        What the encoder reads, special tokens included, cut at its limit; never empty.
    pieces : ndarray of float64, shape (N,)
        Word pieces of the whole text without special tokens; extrapolated beyond `PREFIX_CHARACTERS`.
    characters : ndarray of float64, shape (N,)
        Characters of the whole text.
    """

    ids: list[NDArray[np.int64]]
    pieces: NDArray[np.float64]
    characters: NDArray[np.float64]


class TextTokenizer:
    """A word piece tokeniser read from ``tokenizer.json``.

    Parameters
    ----------
    path : Path
        The file, in the format of the `tokenizers` package.
    max_tokens : int
        The most ids a text may have, special tokens included.
    """

    def __init__(self, path: Path, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises bare Exception
            raise BundleError(f"{path}: not a tokenizer: {error}") from None
        # Texts are cut here, not there: the whole count is wanted, and padding is the encoder's affair.
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._max_tokens = max_tokens
        empty = self._tokenizer.encode("").ids
        # The last special token (BERT's [SEP]) ends every sequence, a cut one too.
        self._special = len(empty)
        self._end = empty[-1] if empty else None

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenise texts; each may be any `str`, lone surrogates and NUL included.

        Parameters
        ----------
        texts : sequence of N str

        Returns
        -------
        Tokens
        """
        prefixes = [text if len(text) <= PREFIX_CHARACTERS else text[:PREFIX_CHARACTERS] for text in texts]
        encodings = self._encode(prefixes)
        characters = np.array([len(text) for text in texts], dtype=np.float64)
        read = np.minimum(characters, PREFIX_CHARACTERS)
        pieces = np.array([len(each) - self._special for each in encodings], dtype=np.float64)
        with np.errstate(invalid="ignore"):
            pieces = np.where(characters > read, pieces * characters / read, pieces)
        return Tokens([self._cut(each.ids) for each in encodings], pieces, characters)

    def _encode(self, texts: list[str]) -> list[Any]:
        # encode_batch_fast keeps no offsets, which nothing here reads.
        encode = getattr(self._tokenizer, "encode_batch_fast", self._tokenizer.encode_batch)
        try:
            return list(encode(texts))
        except (TypeError, UnicodeError):  # a lone surrogate: to the package that is not a str at all
            return list(encode([valid_unicode(text) for text in texts]))

    def _cut(self, ids: list[int]) -> NDArray[np.int64]:
        array = np.array(ids or [0], dtype=np.int64)
        if len(array) > self._max_tokens:
            array = array[: self._max_tokens].copy()
            if self._end is not None:
                array[-1] = self._end
        return array


def valid_unicode(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True)
class InputTokenEstimate:
    """Tokens of a prompt as a provider counts them, from word pieces and characters.

    The estimate is intercept + per_piece * pieces + per_character * characters, at least one token, and at
    least one token for every `longest_token` characters: a word piece tokeniser calls a very long "word" one
    unknown piece, a provider does not.
    """

    intercept: float = 0.0
    per_piece: float = 1.0
    per_character: float = 0.0
    longest_token: float = 16.0

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> InputTokenEstimate:
        """Read it from the table ``[input_tokens]`` of a bundle; a missing key keeps its default."""
        known = {name: float(table[name]) for name in cls.__dataclass_fields__ if name in table}
        return cls(**known)

    def __call__(self, pieces: NDArray[np.float64], characters: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the estimate, int64 of shape (N,)."""
        linear = self.intercept + self.per_piece * pieces + self.per_character * characters
        floor = np.maximum(characters / self.longest_token, 1.0)
        return np.rint(np.maximum(linear, floor)).astype(np.int64)

"""Text to word pieces: any text, however long or malformed, at a bounded price."""

from __future__ import annotations

import json
import re
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
# Texts after which the shortcut for plain ones is opened.
_SHORTCUT_AFTER = 64


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
        self._seen = 0
        self._plain: Any = None
        self._not_plain = re.compile("")
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
        if self._plain is None:
            # Opening the shortcut takes some 40 ms, which a process with a few queries never wins back.
            self._seen += len(texts)
            if self._seen < _SHORTCUT_AFTER:
                return self._encode_any(texts)
            self._plain, self._not_plain = _without_normalizer(self._tokenizer)
        if self._plain is False:
            return self._encode_any(texts)
        plain = [text.isascii() and self._not_plain.search(text) is None for text in texts]
        lowered = [text.lower() for text, is_plain in zip(texts, plain, strict=True) if is_plain]
        others = [text for text, is_plain in zip(texts, plain, strict=True) if not is_plain]
        made = iter(_encode_batch(self._plain, lowered)), iter(self._encode_any(others))
        return [next(made[0] if is_plain else made[1]) for is_plain in plain]

    def _encode_any(self, texts: list[str]) -> list[Any]:
        try:
            return _encode_batch(self._tokenizer, texts)
        except (TypeError, UnicodeError):  # a lone surrogate: to the package that is not a str at all
            return _encode_batch(self._tokenizer, [valid_unicode(text) for text in texts])

    def _cut(self, ids: list[int]) -> NDArray[np.int64]:
        array = np.array(ids or [0], dtype=np.int64)
        if len(array) > self._max_tokens:
            array = array[: self._max_tokens].copy()
            if self._end is not None:
                array[-1] = self._end
        return array


def _encode_batch(tokenizer: Any, texts: list[str]) -> list[Any]:
    # encode_batch_fast keeps no offsets, which nothing here reads.
    encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    return list(encode(texts)) if texts else []


def _without_normalizer(tokenizer: Any) -> tuple[Any, re.Pattern[str]]:
    """Return a twin for lower-case ASCII texts, and what such a text must not contain.

    BERT's normaliser takes a third of the time of tokenising, and to a text of printable ASCII all it does is
    to lower its case. False when the tokeniser has another normaliser.
    """
    from tokenizers import Tokenizer

    content = json.loads(tokenizer.to_str())
    normalizer = content["normalizer"] or {}
    special = "|".join(re.escape(token["content"]) for token in content["added_tokens"])
    # Control characters are dropped by the normaliser; white space only separates.
    pattern = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]" + (f"|{special}" if special else ""))
    if normalizer.get("type") != "BertNormalizer" or not normalizer.get("lowercase"):
        return False, pattern
    content["normalizer"] = None
    return Tokenizer.from_str(json.dumps(content)), pattern


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

"""Text to word pieces: any text, however long or malformed, at a bounded price."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from eccos_rs.errors import BundleError
from eccos_rs.predict.device import allowed_cores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from eccos_rs._core import WordPieces

__all__ = ["InputTokenEstimate", "TextTokenizer", "Tokens"]

# Of a longer text only this many characters are tokenised, the last so many of them from its end; the rest is
# counted by its characters. Both are many times what an encoder reads, so the ids never change.
READ_CHARACTERS, END_CHARACTERS = 16_384, 4_096


@dataclass(frozen=True, eq=False)
class Tokens:
    """The word pieces of N texts.

    Attributes
    ----------
    ids : list of N int64 ndarrays
        What the encoder reads, special tokens included; both ends of a text beyond its limit. Never empty.
    pieces : ndarray of float64, shape (N,)
        Word pieces of the whole text without special tokens; extrapolated beyond `READ_CHARACTERS`.
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
        self._path, self._max_tokens = path, max_tokens
        self._threads = allowed_cores()
        # Most texts take the way that is compiled for plain ones; what the other way needs is opened late.
        self._plain = _plain_pieces(path)
        self._lock = threading.Lock()
        self._any: Any = None
        self._special = 2
        if self._plain is None:
            self._whole()

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Tokenise texts; each may be any `str`, lone surrogates and NUL included.

        Parameters
        ----------
        texts : sequence of N str

        Returns
        -------
        Tokens
        """
        lengths = [len(text) for text in texts]
        long = max(lengths, default=0) > READ_CHARACTERS
        ids, counts = self._encode([_both_ends(text) for text in texts] if long else list(texts))
        pieces, characters = np.array(counts, dtype=np.float64), np.array(lengths, dtype=np.float64)
        if long:
            pieces *= np.maximum(characters / READ_CHARACTERS, 1.0)
        return Tokens(ids, pieces, characters)

    def _encode(self, texts: list[str]) -> tuple[list[NDArray[np.int64]], list[int]]:
        """Return the ids of each text and the number of its pieces."""
        if self._plain is None:
            return self._encode_any(texts)
        made = self._plain.encode(texts, self._max_tokens, self._threads)
        others = [row for row, each in enumerate(made) if each is None]
        if others:
            for row, ids, count in zip(
                others, *self._encode_any([texts[row] for row in others]), strict=True
            ):
                made[row] = ids, count
        done = [each for each in made if each is not None]
        return [ids for ids, _ in done], [count for _, count in done]

    def _encode_any(self, texts: list[str]) -> tuple[list[NDArray[np.int64]], list[int]]:
        tokenizer = self._whole()
        try:
            encodings = _encode_batch(tokenizer, texts)
        except (TypeError, UnicodeError):  # a lone surrogate: to the package that is not a str at all
            encodings = _encode_batch(tokenizer, [valid_unicode(text) for text in texts])
        return [self._cut(each.ids) for each in encodings], [len(each) - self._special for each in encodings]

    def _whole(self) -> Any:
        """Open the tokeniser itself."""
        with self._lock:
            if self._any is not None:
                return self._any
            from tokenizers import Tokenizer

            try:
                made = Tokenizer.from_file(str(self._path))
            except Exception as error:  # the package raises bare Exception
                raise BundleError(f"{self._path}: not a tokenizer: {error}") from None
            # Texts are cut here, not there: the whole count is wanted, and padding is the encoder's affair.
            made.no_padding()
            made.no_truncation()
            empty = made.encode("").ids
            self._special = len(empty)
            self._any = made
            return made

    def _cut(self, ids: list[int]) -> NDArray[np.int64]:
        array, most = np.array(ids or [0], dtype=np.int64), self._max_tokens
        if len(array) > most:
            # Both ends: a long document has its question before or after it.
            array = np.concatenate([array[: most - most // 2], array[len(array) - most // 2 :]])
        return array


def _both_ends(text: str) -> str:
    """Return a text of at most `READ_CHARACTERS`: itself, or its beginning and its end."""
    if len(text) <= READ_CHARACTERS:
        return text
    return f"{text[: READ_CHARACTERS - END_CHARACTERS]} {text[len(text) - END_CHARACTERS + 1 :]}"


def _encode_batch(tokenizer: Any, texts: list[str]) -> list[Any]:
    # encode_batch_fast keeps no offsets, which nothing here reads.
    encode = getattr(tokenizer, "encode_batch_fast", tokenizer.encode_batch)
    return list(encode(texts)) if texts else []


def _plain_pieces(path: Path) -> WordPieces | None:
    """Open the compiled way for texts of printable ASCII; None where the file is no tokeniser of BERT's kind.

    It is some fifteen times as fast, and to such a text BERT's normaliser does nothing but lower its case.
    """
    from eccos_rs._core import WordPieces

    try:
        content = json.loads(path.read_bytes())
        model, added = content["model"], content["added_tokens"]
        begin, end = _ends(content["post_processor"])
        of_berts_kind = (
            content["normalizer"]["type"] == "BertNormalizer"
            and content["normalizer"]["lowercase"]
            and content["normalizer"]["clean_text"]
            and content["pre_tokenizer"]["type"] == "BertPreTokenizer"
            and model["type"] == "WordPiece"
            and not any(token["normalized"] for token in added)
        )
        if not of_berts_kind:
            return None
        return WordPieces(
            {
                "pieces": model["vocab"],
                "continuation": model["continuing_subword_prefix"],
                "unknown": model["vocab"][model["unk_token"]],
                "longest_word": model["max_input_chars_per_word"],
                "begin": begin,
                "end": end,
                "special": [token["content"] for token in added],
            }
        )
    except (OSError, UnicodeError, KeyError, TypeError, ValueError, OverflowError):
        return None  # what is wrong with it is said by the package


def _ends(processor: Any) -> tuple[int, int]:
    """Return the pieces before and after every text."""
    first, text, last = processor["single"]
    ids = [processor["special_tokens"][each["SpecialToken"]["id"]]["ids"] for each in (first, last)]
    if processor["type"] != "TemplateProcessing" or text["Sequence"]["id"] != "A":
        raise ValueError("another processor")
    (begin,), (end,) = ids
    return begin, end


def valid_unicode(text: str) -> str:
    """Join surrogate pairs and replace lone surrogates by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@dataclass(frozen=True)
class InputTokenEstimate:
    """Tokens of a prompt as a provider counts them, from word pieces and characters.

    The estimate is intercept + per_piece * pieces + per_character * characters + the overhead of the query's
    kind, at least one token, and at least one token for every `longest_token` characters: a word piece
    tokeniser calls a very long "word" one unknown piece, a provider does not.

    Attributes
    ----------
    intercept, per_piece, per_character, longest_token : float
        As above.
    overhead : tuple of float
        Weight of each dimension of the embedding: what is sent along with queries of this kind beyond the
        mean. Empty where all kinds are alike.
    overhead_range : tuple of float
        The least and the largest overhead that was seen; no other is estimated.
    model_factor : tuple of float
        Of each model, its count over the common one; empty where all count alike.
    """

    intercept: float = 0.0
    per_piece: float = 1.0
    per_character: float = 0.0
    longest_token: float = 16.0
    overhead: tuple[float, ...] = ()
    overhead_range: tuple[float, ...] = (0.0, 0.0)
    model_factor: tuple[float, ...] = ()

    @classmethod
    def from_table(cls, table: Mapping[str, Any]) -> InputTokenEstimate:
        """Read it from the table ``[input_tokens]`` of a bundle; a missing key keeps its default."""
        known: dict[str, Any] = {}
        for name in cls.__dataclass_fields__:
            if name in table:
                value = table[name]
                known[name] = tuple(map(float, value)) if isinstance(value, list) else float(value)
        return cls(**known)

    def __call__(
        self,
        pieces: NDArray[np.float64],
        characters: NDArray[np.float64],
        embedding: NDArray[np.float32] | None = None,
    ) -> NDArray[np.int64]:
        """Return the estimate, int64 of shape (N,); `embedding` (N, E) tells the overhead."""
        linear = self.intercept + self.per_piece * pieces + self.per_character * characters
        if self.overhead and embedding is not None:
            low, high = self.overhead_range
            linear = linear + np.clip(embedding @ np.asarray(self.overhead), low, high)
        floor = np.maximum(characters / self.longest_token, 1.0)
        return np.rint(np.maximum(linear, floor)).astype(np.int64)

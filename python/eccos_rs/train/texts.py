"""The queries as the encoder reads them, and what it says of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.predict.features import summarise_tokens, token_feature_table
from eccos_rs.predict.tokenize import TextTokenizer
from eccos_rs.train.encoder import encoder_folder, pooled_states

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from eccos_rs.train.encoder import SentenceEncoder

    Floats = NDArray[np.float32]

__all__ = ["Texts", "encode_texts", "read_texts"]


@dataclass(frozen=True, eq=False)
class Texts:
    """N tokenised queries.

    Attributes
    ----------
    ids : list of N int64 arrays
        Token ids, cut at the encoder's limit.
    features : ndarray of float32, shape (N, F)
        From `eccos_rs.predict.features.summarise_tokens`.
    pieces, characters : ndarray of float64, shape (N,)
        Word pieces and characters of the whole text.
    tokenizer : bytes
        ``tokenizer.json``.
    token_kinds : ndarray of float32, shape (V, K)
        From `eccos_rs.predict.features.token_feature_table`.
    """

    ids: list[NDArray[np.int64]]
    features: Floats
    pieces: NDArray[np.float64]
    characters: NDArray[np.float64]
    tokenizer: bytes
    token_kinds: Floats


def read_texts(queries: Sequence[str], max_tokens: int) -> Texts:
    """Tokenise queries with the encoder's own tokeniser."""
    path = encoder_folder() / "tokenizer.json"
    tokens = TextTokenizer(path, max_tokens)(queries)
    content = path.read_bytes()
    table = token_feature_table(json.loads(content)["model"]["vocab"])
    return Texts(
        tokens.ids, summarise_tokens(tokens.ids, table), tokens.pieces, tokens.characters, content, table
    )


def encode_texts(
    encoder: SentenceEncoder,
    texts: Texts,
    device: str,
    on_rows: Callable[[int], object] | None = None,
) -> Floats:
    """Run the encoder and lay out what neighbours and heads read; the encoder ends up on the CPU.

    Parameters
    ----------
    encoder : SentenceEncoder
        As published or fine-tuned.
    texts : Texts
        N queries.
    device : str
        Where to compute.
    on_rows : callable, optional
        Called with the number of queries just done.

    Returns
    -------
    ndarray of float32, shape (N, I)
        Mean of the low layer, unit embedding and text features side by side; the graph does the same.
    """
    low, last = pooled_states(encoder, texts.ids, device=device, on_rows=on_rows)
    encoder.cpu()
    unit = (last / np.maximum(np.linalg.norm(last, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return np.concatenate([low, unit, texts.features], axis=1).astype(np.float32)

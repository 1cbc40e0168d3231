"""The tokeniser: its shortcut against the full tokenizer, its bounds, its counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eccos_rs.errors import BundleError
from eccos_rs.predict.tokenize import READ_CHARACTERS, InputTokenEstimate, TextTokenizer
from tests.helpers import tiny

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Tokenizer


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    at.write_bytes(tiny.tokenizer_json())
    return at


@pytest.fixture(scope="module")
def ours(path: Path) -> TextTokenizer:
    made = TextTokenizer(path, tiny.MAX_TOKENS)
    assert made._plain is not None
    return made


@pytest.fixture(scope="module")
def theirs(path: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


ODD = ["[SEP]", "[sep]", "\x00", "\x1f", "\x7f", "é", "É", "漢"]
PIECES = st.sampled_from(["What", "IS", " ", "\n", "\t", "\r\n", "2+2", "(x)", *ODD])


@given(text=st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map("".join)))
def test_the_shortcut_changes_nothing(ours: TextTokenizer, theirs: Tokenizer, text: str) -> None:
    wanted = theirs.encode(text).ids
    made = ours([text])
    assert made.pieces[0] == len(wanted) - 2
    if len(wanted) <= tiny.MAX_TOKENS:
        assert made.ids[0].tolist() == wanted


def test_texts_of_both_ways_keep_their_order(ours: TextTokenizer, theirs: Tokenizer) -> None:
    texts = ["What is it", "é", "the SUM", "", "漢字", "[SEP] a", "prime"]
    assert [each.tolist() for each in ours(texts).ids] == [theirs.encode(text).ids for text in texts]


def test_a_cut_sequence_ends_as_a_whole_one(ours: TextTokenizer) -> None:
    made = ours(["word " * 100])
    assert len(made.ids[0]) == tiny.MAX_TOKENS
    assert made.ids[0][0] == 2
    assert made.ids[0][-1] == 3
    assert made.pieces[0] == 100


def test_only_a_prefix_is_tokenised_and_the_rest_is_counted(ours: TextTokenizer) -> None:
    times = 4 * READ_CHARACTERS // 5
    made = ours(["word " * times])
    assert made.pieces[0] == pytest.approx(times, rel=1e-3)
    assert made.characters[0] == 5 * times


def test_nothing_at_all(ours: TextTokenizer) -> None:
    assert ours([]).ids == []
    assert ours([""]).ids[0].tolist() == [2, 3]


def test_the_estimate_of_input_tokens() -> None:
    estimate = InputTokenEstimate.from_table(
        {"intercept": 2, "per_piece": 1.5, "per_character": 0.1, "other": 1}
    )
    assert estimate(np.array([10.0]), np.array([20.0])).tolist() == [19]
    # Never none, and one long unknown "word" is not one token.
    assert InputTokenEstimate()(np.array([0.0, 1.0]), np.array([0.0, 1600.0])).tolist() == [1, 100]


def test_a_file_that_is_no_tokeniser(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match="not a tokenizer"):
        TextTokenizer(tmp_path / "tokenizer.json", 8)


@pytest.mark.parametrize("word", ["word", "wörd"])
def test_of_a_long_text_both_ends_are_read(ours: TextTokenizer, theirs: Tokenizer, word: str) -> None:
    """The compiled way and the whole tokeniser cut in the same place."""
    words = [f"{word} {'sum' if row % 3 else 'prime'} {row}" for row in range(60)]
    made = ours([" ".join(words)]).ids[0].tolist()
    whole = theirs.encode(" ".join(words)).ids
    half = tiny.MAX_TOKENS // 2
    assert made == whole[: tiny.MAX_TOKENS - half] + whole[-half:]
    # A question behind a document is seen, and so is one before it.
    ids = [
        ours([text]).ids[0].tolist()
        for text in ("x " * 500 + "prime", "x " * 500 + "sum", "sum " + "x " * 500)
    ]
    assert ids[0] != ids[1]
    assert ids[1] != ids[2]


def test_the_end_of_a_text_of_any_length_is_read(ours: TextTokenizer) -> None:
    long = "x " * READ_CHARACTERS
    one, two = ours([long + "prime", long + "sum"]).ids
    assert one[:-2].tolist() == two[:-2].tolist()
    assert one[-2] != two[-2]

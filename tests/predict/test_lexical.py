"""Words beside the encoder's view: a sketch of fixed size, read only where labels show that it helps."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs import Query
from eccos_rs.predict.prior.learned import LearnedPredictor, ModelOutcome
from eccos_rs.predict.prior.lexical import DIMENSION, lexical_rows, sketch_words
from eccos_rs.predict.protocol import Prediction

WORDS = [f"name{number}" for number in range(200)]


class Blind:
    """Gives embeddings that tell nothing of the text's words."""

    models = ("one",)

    def predict(self, queries: list[Query]) -> Prediction:
        vectors = np.zeros((len(queries), 16), dtype=np.float32)
        for row, query in enumerate(queries):
            vectors[row] = np.random.default_rng(list(query.prompt.encode())).normal(size=16)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        column = np.full((len(queries), 1), 0.5, np.float32)
        return Prediction(
            models=self.models, quality=column, output_tokens=100 * column, quality_std=0.2 * column,
            log_tokens_std=column, input_tokens=np.full(len(queries), 10), embedding=vectors,
            similarity=np.full(len(queries), 0.9, np.float32),
        )  # fmt: skip


def log_lines(count: int, seed: int) -> tuple[list[Query], np.ndarray]:
    """Make lines of one template or the other; a model parses the one and not the other."""
    rng = np.random.default_rng(seed)
    good = rng.integers(2, size=count)
    lines = [
        f"{'pam_unix(sshd): session opened' if each else 'dfs.DataNode$PacketResponder: terminating'} "
        + " ".join(rng.choice(WORDS, 6))
        for each in good
    ]
    return [Query(line) for line in lines], good


def learned(good_of_words: bool) -> LearnedPredictor:
    queries, good = log_lines(200, 0)
    if not good_of_words:
        good = np.random.default_rng(5).integers(2, size=len(good))
    made = LearnedPredictor(Blind())
    made.learn(queries, [ModelOutcome("one", float(each)) for each in good])
    return made


def test_a_sketch_is_a_unit_vector_that_words_alone_decide() -> None:
    made = sketch_words(["Open THE gate", "open the gate", "open the gate again and again", "", "\ud800 ok"])
    assert made.shape == (5, DIMENSION)
    assert np.linalg.norm(made, axis=1) == pytest.approx([1, 1, 1, 0, 1], abs=1e-5)
    assert made[0] == pytest.approx(made[1])
    near = lexical_rows(made, made)
    assert near[0, 1] > near[0, 2] > near[0, 3]


def test_a_megabyte_is_read_at_both_ends() -> None:
    text = "alpha beta " * 100_000
    ends = sketch_words([f"begin {text} end", f"begin {text} other", text])
    assert (ends @ ends.T)[0, 1] < 1.0 - 1e-6
    assert (ends @ ends.T)[0, 1] > 0.9


def test_words_are_read_where_labels_show_that_they_help() -> None:
    queries, good = log_lines(100, 1)
    told = learned(good_of_words=True).predict(queries).quality[:, 0]
    assert told[good == 1].mean() > 0.8
    assert told[good == 0].mean() < 0.2
    noise = learned(good_of_words=False)
    assert noise.predict(queries).quality[:, 0] == pytest.approx(np.full(100, 0.5), abs=0.12)


def test_what_words_taught_is_kept() -> None:
    queries, _ = log_lines(20, 2)
    made = learned(good_of_words=True)
    again = LearnedPredictor.restored(made.base, made.state())
    assert again.predict(queries).quality == pytest.approx(made.predict(queries).quality, abs=5e-3)
    older = {name: values for name, values in made.state().items() if name != "words"}
    assert np.isfinite(LearnedPredictor.restored(made.base, older).predict(queries).quality).all()

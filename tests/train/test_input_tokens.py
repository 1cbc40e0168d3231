"""Input tokens meet the total that was paid for, whatever was sent beside the text."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs.predict.tokenize import InputTokenEstimate
from eccos_rs.train.input_tokens import fit_input_tokens

ROWS = 600
ROUTES = {"chat": 40.0, "agent": 2500.0, "search": 700.0}


def world(overheads: dict[str, float], seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return pieces, characters, tokens, datasets and embeddings; each route has a direction of its own."""
    rng = np.random.default_rng(seed)
    pieces = np.rint(rng.lognormal(4, 0.8, ROWS))
    characters = np.rint(4.3 * pieces * rng.lognormal(0, 0.1, ROWS))
    route = rng.integers(0, len(overheads), ROWS)
    sent = np.array(list(overheads.values()))[route]
    tokens = np.rint(0.9 * pieces + sent + rng.normal(0, 3, ROWS))
    vectors = np.eye(16)[route] + 0.07 * rng.normal(size=(ROWS, 16))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = np.array(list(overheads))[route]
    return pieces, characters, np.maximum(tokens, 1.0), names, vectors.astype(np.float32)


def fitted(
    pieces: np.ndarray, characters: np.ndarray, tokens: np.ndarray, **more: object
) -> InputTokenEstimate:
    return InputTokenEstimate.from_table(fit_input_tokens(pieces, characters, tokens, **more))  # type: ignore[arg-type]


@pytest.mark.parametrize("overheads", [ROUTES, {"one": 0.0}, {"one": 1200.0, "two": 1210.0}])
def test_the_total_is_met(overheads: dict[str, float]) -> None:
    pieces, characters, tokens, names, vectors = world(overheads)
    made = fitted(pieces, characters, tokens, dataset=names, embedding=vectors)
    assert made(pieces, characters, vectors).sum() == pytest.approx(tokens.sum(), rel=0.01)
    # A mean overhead meets the total too, only not that of each route.
    alone = fitted(pieces, characters, tokens)
    assert alone(pieces, characters).sum() == pytest.approx(tokens.sum(), rel=0.01)


def test_each_route_has_its_own_overhead_on_queries_not_seen_before() -> None:
    pieces, characters, tokens, names, vectors = world(ROUTES)
    made = fitted(pieces, characters, tokens, dataset=names, embedding=vectors)
    assert len(made.overhead) == 16
    pieces, characters, tokens, names, vectors = world(ROUTES, seed=1)
    guess = made(pieces, characters, vectors)
    for route in ROUTES:
        mine = names == route
        assert guess[mine].mean() == pytest.approx(tokens[mine].mean(), abs=100)
    # No text, however odd, is thought to carry more than any route does.
    odd = np.full((1, 16), 50.0, dtype=np.float32)
    assert made(np.array([10.0]), np.array([40.0]), odd)[0] <= 2500 + 10


def test_what_is_alike_needs_no_embedding() -> None:
    pieces, characters, tokens, names, vectors = world({"one": 1200.0, "two": 1210.0})
    made = fitted(pieces, characters, tokens, dataset=names, embedding=vectors)
    assert made.overhead == ()
    assert made.intercept == pytest.approx(1205, rel=0.01)
    assert made.model_factor == ()


def test_models_that_count_otherwise_have_their_own_factor() -> None:
    pieces, characters, tokens, names, vectors = world(ROUTES)
    by_model = np.column_stack([tokens, 1.3 * tokens, np.where(names == "chat", 0.8 * tokens, np.nan)])
    made = fitted(pieces, characters, tokens, dataset=names, embedding=vectors, by_model=by_model)
    assert made.model_factor[:2] == pytest.approx([1.0, 1.3], rel=0.02)
    assert made.model_factor[2] == pytest.approx(0.8, rel=0.3)
    same = fitted(pieces, characters, tokens, by_model=np.column_stack([tokens, tokens]))
    assert same.model_factor == ()

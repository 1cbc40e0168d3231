"""Counts of tokens: what goes along with a query and how long answers are, and how well that is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eccos_rs import LLM, Pool, Query, Router
from eccos_rs.predict.familiarity import AWAY_LENGTH_STD
from eccos_rs.predict.prior.learned import LearnedPredictor, ModelOutcome
from eccos_rs.predict.prior.prompts import fit_prompts
from eccos_rs.predict.prior.tokens import TokenLevels
from eccos_rs.predict.protocol import Prediction
from eccos_rs.predict.shared import LENGTH_LEVEL_STD, SharedErrors

if TYPE_CHECKING:
    from collections.abc import Sequence

MODELS = ("small", "large")
NONE = np.zeros((0, 4), dtype=np.float32)


def unit(rows: int, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).normal(size=(rows, 4))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


class Somewhere:
    """Forecasts 100 tokens of everything, on traffic as like known ground as it is told."""

    models = MODELS

    def __init__(self, similarity: float) -> None:
        self.similarity = similarity

    def predict(self, queries: Sequence[Query]) -> Prediction:
        shape = len(queries), len(MODELS)
        vectors = np.zeros((len(queries), 64), dtype=np.float32)
        # Each text a vector of its own; those of one kind lie close.
        for row, query in enumerate(queries):
            rng = np.random.default_rng(list(query.prompt.encode()))
            kind = np.random.default_rng(list(query.prompt.split()[0].encode()))
            vectors[row] = kind.normal(size=64) + 0.3 * rng.normal(size=64)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return Prediction(
            models=MODELS,
            quality=np.tile(np.array([0.5, 0.7], np.float32), (len(queries), 1)),
            output_tokens=np.full(shape, 100, np.float32),
            quality_std=np.full(shape, 0.1, np.float32),
            log_tokens_std=np.full(shape, math.hypot(0.6, AWAY_LENGTH_STD), np.float32),
            input_tokens=np.array([len(query.prompt.split()) for query in queries], dtype=np.int64),
            embedding=vectors,
            similarity=np.full(len(queries), self.similarity, np.float32),
        )


def queries(kind: str, count: int, start: int = 0) -> list[Query]:
    return [Query(f"{kind} {'word ' * (10 + at % 7)}{at}") for at in range(start, start + count)]


def outcomes(batch: list[Query], *, sent: int, tokens: float) -> tuple[list[Query], list[ModelOutcome]]:
    """Let both models answer, right half of the time, with `sent` tokens around every query."""
    pairs = [
        (query, ModelOutcome(name, float(at % 2), tokens, input_tokens=len(query.prompt.split()) + sent))
        for at, query in enumerate(batch)
        for name in MODELS
    ]
    return [query for query, _ in pairs], [outcome for _, outcome in pairs]


def learned(similarity: float, *batches: tuple[list[Query], list[ModelOutcome]]) -> LearnedPredictor:
    made = LearnedPredictor(Somewhere(similarity))
    for batch in batches:
        made.learn(*batch)
    return made


def test_what_is_sent_along_is_met_in_total() -> None:
    rng = np.random.default_rng(0)
    estimate = rng.integers(20, 400, 60).astype(float)
    counted = 1.3 * estimate + 900 + rng.normal(0, 10, 60)
    fit = fit_prompts(counted, estimate, unit(60), 0.25)
    assert fit is not None
    told = fit(estimate, unit(60))
    assert told.sum() == pytest.approx(counted.sum(), rel=0.05)
    assert told == pytest.approx(counted, rel=0.15)
    assert fit.std < 0.25


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_few_counts_move_the_estimate_by_their_share(count: int) -> None:
    estimate = np.full(count, 100.0)
    fit = fit_prompts(estimate + 300.0, estimate, unit(count), 0.25)
    assert fit is not None
    assert float(fit(np.array([100.0]), None)[0]) == pytest.approx(100 + 300 * count / (count + 2))


def test_counts_below_the_estimate_make_no_negative_base() -> None:
    estimate = np.linspace(50, 500, 40)
    fit = fit_prompts(0.6 * estimate, estimate, unit(40), 0.25)
    assert fit is not None
    assert fit(np.array([1.0, 100.0]), None) == pytest.approx([1.0, 62.0], abs=3.0)
    assert fit_prompts(np.empty(0), np.empty(0), NONE, 0.25) is None


def test_kinds_that_carry_different_texts_are_told_apart() -> None:
    made = learned(
        0.9,
        outcomes(queries("terse", 60), sent=5, tokens=100),
        outcomes(queries("briefed", 60), sent=2_000, tokens=100),
    )
    after = made.predict([*queries("terse", 20, 500), *queries("briefed", 20, 500)])
    assert after.input_tokens[:20].mean() < 300
    assert after.input_tokens[20:].mean() == pytest.approx(2_000, rel=0.15)


def test_labels_of_foreign_traffic_update_lengths_and_make_it_known() -> None:
    before = Somewhere(0.2).predict(queries("alien", 40, 900))
    after = learned(0.2, outcomes(queries("alien", 50), sent=300, tokens=400)).predict(
        queries("alien", 40, 900)
    )
    assert after.output_tokens == pytest.approx(np.full((40, 2), 400.0), rel=0.15)
    assert after.input_tokens - before.input_tokens == pytest.approx(np.full(40, 300), rel=0.1)
    assert before.familiar is not None
    assert after.familiar is not None
    assert (before.familiar == 0.0).all()
    assert after.familiar.mean() > 0.9
    assert (after.log_tokens_std < before.log_tokens_std).all()
    # Texts unlike what was labelled stay foreign.
    assert learned(0.2, outcomes(queries("alien", 50), sent=0, tokens=400)).predict(
        queries("elsewhere", 40)
    ).familiar == pytest.approx(np.zeros(40))


def test_the_room_for_shared_errors_shrinks_with_labels_and_never_below_what_they_tell() -> None:
    base, pool = Somewhere(0.2), Pool([LLM("small", 0.1, 0.4), LLM("large", 1.0, 4.0)])
    batch, upper = queries("alien", 256, 2_000), []
    for count in (0, 10, 50, 400):
        made = learned(0.2, outcomes(queries("alien", count), sent=0, tokens=100)) if count else base
        plan = Router(pool, made).route(batch, budget=1.0, confidence=0.95)
        upper.append(plan.margin.upper_cost / plan.assignment.cost)
    assert upper == sorted(upper, reverse=True)
    assert upper[0] > 3.0
    assert 1.02 < upper[-1] < 1.4


def test_one_model_with_counts_says_nothing_of_the_others_at_home() -> None:
    home = learned(0.9)
    home.learn(queries("known", 50), [ModelOutcome("small", 1.0, 900.0)] * 50)
    told = home.predict(queries("known", 5))
    assert told.output_tokens[:, 1] == pytest.approx([100.0] * 5)
    assert told.output_tokens[:, 0].mean() > 300
    assert told.shared is not None
    assert told.shared.length[1] == pytest.approx(LENGTH_LEVEL_STD)


def test_a_model_that_nobody_counted_takes_more_room_in_a_budget() -> None:
    day_one = Router.day_one(
        Pool([LLM("gpt-5-mini", 0.25, 2), LLM("nobody-knows-this", 0.25, 2)]), device="cpu"
    )
    made = day_one.predict(["What is the boiling point of water at sea level?"])
    assert made.shared is not None
    assert made.shared.length[1] > 1.5 * made.shared.length[0]
    assert made.shared.prompt > 0.1


def test_levels_that_move_together_are_not_taken_for_independent() -> None:
    made = learned(0.2, outcomes(queries("alien", 50), sent=0, tokens=100)).predict(queries("alien", 64, 900))
    assert made.shared is not None
    assert made.shared.level is not None
    values = np.linalg.eigvalsh(made.shared.level)
    assert (values > -1e-12).all()
    # Level and foreign level are known only as their sum, which fifty labels of two models settle.
    assert math.sqrt(made.shared.level[0, 0]) < 0.4
    assert made.shared.level[0, 1] > -0.05


def test_shared_errors_follow_their_columns() -> None:
    errors = SharedErrors(np.array([0.1, 0.2, 0.3], np.float32), 0.1, np.diag([1.0, 2.0, 3.0]))
    some = errors.select([2, 0])
    assert some.length.tolist() == pytest.approx([0.3, 0.1])
    assert some.level is not None
    assert np.diag(some.level).tolist() == [3.0, 1.0]
    wide = some.widened([0.5], [2.0])
    assert wide.length.tolist() == pytest.approx([0.3, 0.1, 0.5])
    assert wide.level is not None
    assert np.diag(wide.level).tolist() == [3.0, 1.0, 4.0]
    assert TokenLevels.unknown(Somewhere(0.2)).prompt is None


def test_what_was_learned_of_prompts_is_kept_and_an_older_state_is_read() -> None:
    made = learned(0.2, outcomes(queries("alien", 30), sent=300, tokens=200))
    again = LearnedPredictor.restored(made.base, made.state())
    batch = queries("alien", 10, 700)
    assert again.predict(batch).input_tokens.tolist() == pytest.approx(
        made.predict(batch).input_tokens.tolist(), abs=2
    )
    older = {name: values for name, values in made.state().items() if not name.startswith("prompt")}
    told = LearnedPredictor.restored(made.base, older).predict(batch)
    assert told.input_tokens.tolist() == made.base.predict(batch).input_tokens.tolist()


@pytest.mark.parametrize("tokens", [-1.0, math.inf])
def test_a_count_that_is_none_is_refused(tokens: float) -> None:
    query, good = queries("alien", 1), ModelOutcome("small", 1.0, 100.0)
    with pytest.raises(Exception, match="input_tokens: got"):
        learned(0.2).learn(query, [replace(good, input_tokens=tokens)])

"""Text to decision: each stage and the whole by batch size and length, as a share of LLM response time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from settings import MEAN_OUTPUT_TOKENS, ONCE, TOKENS_PER_SECOND
from texts import KINDS, LENGTHS, texts

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES = (1, 16) if ONCE else (1, 16, 64, 256, 1024, 16_384)
STAGES = ("tokenize", "encode", "retrieve", "predict")
# A batch so large is one long measurement in itself.
ROUNDS = {16_384: 1, 1024: 2}


def check(plan: Any, batch: int) -> None:
    assert len(plan) == batch
    assert ((plan.quality >= 0) & (plan.quality <= 1)).all()
    assert set(plan.models) - {None}


def report(say: Callable[[str], None], name: str, seconds: float, plans: list[Any], batch: int) -> None:
    if not seconds:
        return
    answer = MEAN_OUTPUT_TOKENS / TOKENS_PER_SECOND
    other = min(sum(plan.seconds.values()) - plan.seconds["encode"] for plan in plans)
    say(
        f"{name:<28} {1e3 * seconds / batch:8.3f} ms a query = {seconds / batch / answer:.3%} of an answer "
        f"of {answer:.1f} s; all but the encoder {1e3 * other / batch:6.3f} ms"
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", BATCHES)
def test_route(timed: Any, router: Any, say: Any, batch: int, kind: str) -> None:
    if batch == 16_384 and kind == "long":
        pytest.skip("a quarter of an hour on two cores, and no other thing per query than at 1,024")
    given = texts(kind, batch)
    made: list[Any] = []
    seconds = timed(
        lambda: made.append(router.route(given, min_quality=0.7)), queries=batch, rounds=ROUNDS.get(batch, 5)
    )
    check(made[-1], batch)
    report(say, f"route, {kind}, batch {batch}", seconds, made, batch)


@pytest.mark.parametrize("pieces", LENGTHS)
@pytest.mark.parametrize("batch", [1, 64])
def test_route_by_length(  # noqa: PLR0917 - a case and its fixtures
    timed: Any, router: Any, of_length: Any, say: Any, batch: int, pieces: int
) -> None:
    """The figures that are stated for queries of a length."""
    given = of_length(pieces, batch)
    counts = [len(ids) for ids in router.predictor._tokenizer(given).ids]
    assert pieces - 4 <= np.mean(counts) <= pieces
    made: list[Any] = []
    seconds = timed(lambda: made.append(router.route(given, min_quality=0.7)), queries=batch, rounds=7)
    check(made[-1], batch)
    report(say, f"route, ~{pieces} tokens, batch {batch}", seconds, made, batch)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("batch", BATCHES[:5])
def test_stage(timed: Any, predictor: Any, batch: int, stage: str) -> None:
    """One stage alone on mixed queries, with the others done before the clock starts."""
    given = texts("mixed", batch)
    tokens = predictor._tokenizer(given)
    encoded = predictor._encoder.run(tokens.ids)
    estimate = predictor.retrieval.estimate(encoded.embedding)
    scores = predictor._scores(encoded, estimate)
    work: dict[str, Callable[[], Any]] = {
        "tokenize": lambda: predictor._tokenizer(given),
        "encode": lambda: predictor._encoder.run(tokens.ids),
        "retrieve": lambda: predictor.retrieval.estimate(encoded.embedding),
        "predict": lambda: predictor._calibration.apply(scores, estimate.similarity),
    }
    timed(work[stage], queries=batch, rounds=2 if batch == 1024 else 5)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_repeated_queries(timed: Any, bundle: Any, share: float) -> None:
    """The cache: what a batch costs when a share of its texts was seen before."""
    predictor = bundle.predictor("hybrid", device="cpu")
    from eccos_rs import Query

    known, fresh = texts("mixed", 64, seed=1), texts("mixed", 64, seed=2)
    seen = round(share * 64)
    batch = [Query(text) for text in (*known[:seen], *fresh[seen:])]
    predictor.predict([Query(text) for text in known])

    def work() -> Any:
        predictor.cache.clear()
        predictor.predict(batch[:seen])
        return predictor.predict(batch)

    made = predictor.predict(batch)
    assert made.quality.shape == (64, len(bundle.models))
    timed(work, queries=64, rounds=2)


@pytest.mark.parametrize("variant", ["float32", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_arithmetic(timed: Any, bundle: Any, of_length: Any, variant: str, threads: int) -> None:
    """Both CPU graphs at ~128 tokens, batch 16."""
    predictor = bundle.predictor("trained", device="cpu", variant=variant, threads=threads, cache_size=0)
    ids = predictor._tokenizer(of_length(128, 16)).ids
    assert np.isfinite(predictor._encoder.run(ids).success_logit).all()
    timed(lambda: predictor._encoder.run(ids), queries=16, rounds=3)

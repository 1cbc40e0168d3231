"""Text to decision: each stage and the whole by batch size and length, as a share of LLM response time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from benches.settings import MEAN_OUTPUT_TOKENS, ONCE, TOKENS_PER_SECOND
from benches.texts import KINDS, LENGTHS, texts
from eccos_rs.predict.open import open_predictor

if TYPE_CHECKING:
    from collections.abc import Callable

BATCHES = (1, 16) if ONCE else (1, 16, 64, 256, 1024, 16_384)
STAGES = ("tokenize", "encode", "retrieve", "predict")
# A batch so large is one long measurement in itself.
ROUNDS = {16_384: 1, 1024: 2, 256: 3}


def check(plan: Any, batch: int) -> None:
    assert len(plan) == batch
    assert ((plan.quality >= 0) & (plan.quality <= 1)).all()
    assert set(plan.models) - {None}


@pytest.fixture
def whole(timed: Any, router: Any, say: Callable[[str], None], benchmark: Any) -> Callable[..., None]:
    """Time text to decision for a batch, with what it spends beside the encoder."""

    def measure(given: list[str], queries: str, rounds: int) -> None:
        made: list[Any] = []
        batch = len(given)
        seconds = timed(
            lambda: made.append(router.route(given, min_quality=0.7)),
            queries=batch,
            rounds=rounds,
            table="whole",
            kind=queries,
        )
        check(made[-1], batch)
        beside = min(sum(plan.seconds.values()) - plan.seconds["encode"] for plan in made)
        benchmark.extra_info["beside"] = beside
        if seconds:
            answer = MEAN_OUTPUT_TOKENS / TOKENS_PER_SECOND
            say(
                f"route, {queries}, batch {batch:<6} {1e3 * seconds / batch:8.3f} ms per query = "
                f"{seconds / batch / answer:.3%} of an answer of {answer:.1f} s; "
                f"all but the encoder {1e3 * beside / batch:6.3f} ms"
            )

    return measure


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", BATCHES)
def test_route(whole: Callable[..., None], batch: int, kind: str) -> None:
    if batch == 16_384 and kind == "long":
        pytest.skip("minutes on two cores, and no other thing per query than at 1,024")
    whole(texts(kind, batch), kind, ROUNDS.get(batch, 40 if batch == 1 else 5))


@pytest.mark.parametrize("pieces", LENGTHS)
@pytest.mark.parametrize("batch", [1, 64])
def test_route_by_length(
    whole: Callable[..., None], router: Any, of_length: Any, batch: int, pieces: int
) -> None:
    """The figures that are stated for queries of a length."""
    given = of_length(pieces, batch)
    counts = [len(ids) for ids in router.predictor._tokenizer(given).ids]
    assert pieces - 4 <= np.mean(counts) <= pieces
    whole(given, f"~{pieces} tokens", 40 if batch == 1 else 7)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("batch", BATCHES[:5])
def test_stage(timed: Any, predictor: Any, batch: int, stage: str) -> None:
    """One stage alone on mixed queries, with the others done before the clock starts."""
    given = texts("mixed", batch)
    tokens = predictor._tokenizer(given)
    encoded = predictor._encoder.run(tokens.ids)
    found = predictor.retrieval.sums(encoded.embedding)
    work: dict[str, Callable[[], Any]] = {
        "tokenize": lambda: predictor._tokenizer(given),
        "encode": lambda: predictor._encoder.run(tokens.ids),
        "retrieve": lambda: predictor.retrieval.sums(encoded.embedding),
        "predict": lambda: predictor._forecast(encoded, found),
    }
    timed(work[stage], queries=batch, rounds=2 if batch == 1024 else 5, table="stages", stage=stage)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_repeated_queries(timed: Any, bundle: Any, share: float) -> None:
    """The cache: what a batch costs when a share of its texts was seen before."""
    predictor = open_predictor(bundle, "hybrid", device="cpu")
    from eccos_rs import Query

    known, fresh = texts("mixed", 64, seed=1), texts("mixed", 64, seed=2)
    seen = round(share * 64)
    batch = [Query(text) for text in (*known[:seen], *fresh[seen:])]
    predictor.predict([Query(text) for text in known])

    def seen_before() -> None:
        predictor.cache.clear()
        predictor.predict(batch[:seen])

    made = predictor.predict(batch)
    assert made.quality.shape == (64, len(bundle.models))
    timed(
        lambda: predictor.predict(batch), queries=64, rounds=3, before=seen_before, table="cache", share=share
    )
    assert predictor.cache.hits >= seen


@pytest.mark.parametrize("variant", ["float32", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_precision(timed: Any, bundle: Any, of_length: Any, variant: str, threads: int) -> None:
    """Both CPU graphs at ~128 tokens, batch 16."""
    predictor = open_predictor(
        bundle, "trained", device="cpu", variant=variant, threads=threads, cache_size=0
    )
    ids = predictor._tokenizer(of_length(128, 16)).ids
    assert np.isfinite(predictor._encoder.run(ids).success_logit).all()
    timed(
        lambda: predictor._encoder.run(ids),
        queries=16,
        rounds=3,
        table="precision",
        variant=variant,
        threads=threads,
    )

"""A column of a pool is an option: model, effort, lane; limits shared by several; scores of one's own."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from eccos_rs import LLM, Policy, Pool, PoolError, Prediction, Query, QueryError, Router
from eccos_rs.catalogue.names import join_options, split_options
from eccos_rs.pools.columns import find_column
from eccos_rs.pools.pool import Limit, PriceStep

LOW, HIGH = (LLM("o3", 2.0, 8.0, effort=effort) for effort in ("low", "high"))


def test_entries_of_one_model_are_named_by_effort_and_lane() -> None:
    pool = Pool([LOW, HIGH, LLM("o3", 1.0, 4.0, effort="low", lane="batch", lane_hours=24), LLM("a", 1, 1)])
    assert pool.names == ("o3@low", "o3@high", "o3@low@batch", "a")
    assert [model.key for model in pool] == [
        ("o3", "low", None),
        ("o3", "high", None),
        ("o3", "low", "batch"),
        ("a", None, None),
    ]
    assert pool.columns("o3") == (0, 1, 2)
    assert pool.columns("o3@high") == (1,)
    assert Pool.from_toml(pool.to_toml()) == pool
    assert pickle.loads(pickle.dumps(pool)) == pool


def test_one_entry_keeps_its_name_whatever_its_effort() -> None:
    assert Pool([LOW]).names == ("o3",)


def test_the_same_effort_twice_is_a_twin() -> None:
    with pytest.raises(PoolError, match="'o3@low' is in the pool twice"):
        Pool([LOW, LOW])


def test_a_shared_limit_comes_back_from_the_file() -> None:
    limit = Limit("openai", ("o3", "a"), requests_per_minute=500, tokens_per_minute=2e6)
    pool = Pool([LOW, HIGH, LLM("a", 1, 1)], [limit])
    assert Pool.from_toml(pool.to_toml()) == pool
    assert "[[limit]]" in pool.to_toml()
    assert pool.select(["a"]).limits == (
        Limit("openai", ("a",), requests_per_minute=500, tokens_per_minute=2e6),
    )
    assert pool.select(["o3@low"]).limits[0].models == ("o3",)
    assert pool.with_limits().limits == ()


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        ('name = "x"\nmodels = ["a"]', "limits nothing"),
        ('name = "x"\nmodels = []\nslots = 3', "models of limit 'x' must be a list of names"),
        ('name = "x"\nmodels = "a"\nslots = 3', "models of limit 'x' must be a list of names"),
        ('name = "x"\nmodels = ["b"]\nslots = 3', "limit 'x': there is no model 'b' in the pool"),
        ('name = "x"\nmodels = ["a"]\nslot = 3', "unknown key 'slot' in limit 'x'; did you mean 'slots'"),
        ('models = ["a"]\nslots = 3', "limit 0 has no name"),
        ('name = "x"\nslots = 3', "limit 'x' has no models"),
        ('name = "x"\nmodels = ["a"]\nslots = -1', "slots of limit 'x' must be"),
        ('name = "x"\nmodels = ["a"]\nslots = 1.5', "slots of limit 'x' must be a whole number"),
    ],
)
def test_a_malformed_limit_is_refused(limit: str, sentence: str) -> None:
    model = 'schema_version = 1\n[[model]]\nname = "a"\ninput_price = 1\noutput_price = 1\n'
    with pytest.raises(PoolError, match=sentence):
        Pool.from_toml(f"{model}[[limit]]\n{limit}\n")


def test_two_limits_of_one_name_are_refused() -> None:
    limit = Limit("x", ("a",), slots=2)
    with pytest.raises(PoolError, match="limit 'x' is in the pool twice"):
        Pool([LLM("a", 1, 1)], [limit, limit])


def test_scores_of_ones_own_are_part_of_the_pool() -> None:
    pool = Pool([LOW, HIGH]).with_scores("o3", {"mmlu_pro": 0.85}, mean_tokens=900, source="own harness")
    assert [model.scores["mmlu_pro"] for model in pool] == [0.85, 0.85]
    assert Pool.from_toml(pool.to_toml()) == pool
    assert pickle.loads(pickle.dumps(pool)) == pool
    more = pool.with_scores("o3@low", {"mmlu_pro/law": 0.6, "mmlu_pro": 0.8})
    assert dict(more["o3@low"].scores) == {"mmlu_pro": 0.8, "mmlu_pro/law": 0.6}
    assert more["o3@low"].mean_tokens == 900
    assert more["o3@high"] == pool["o3@high"]


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({"mmlu_pro": 81}, r"must lie in \[0, 1\], got 81; as a percentage it would be 0.81"),
        ({"mmlu_pro": -0.1}, "score 'mmlu_pro' of model 'o3'"),
        ({"mmlu_pro": float("nan")}, "score 'mmlu_pro' of model 'o3'"),
        ({"": 0.5}, "names of benchmarks"),
        ({"mmlu_pro": "0.8"}, "score 'mmlu_pro' of model 'o3'"),
    ],
)
def test_a_score_that_is_no_share_is_refused(scores: dict[str, object], sentence: str) -> None:
    with pytest.raises(PoolError, match=sentence):
        Pool([LOW]).with_scores("o3", scores)  # type: ignore[arg-type]


def test_price_steps_rise() -> None:
    steps = [PriceStep(200_000, 4.0, 12.0), PriceStep(100_000, 3.0, 9.0)]
    with pytest.raises(PoolError, match="must rise in 'above'"):
        LLM("a", 1, 2, price_steps=steps)
    pool = Pool([LLM("a", 1, 2, price_steps=steps[::-1])])
    assert Pool.from_toml(pool.to_toml()) == pool


def test_a_lane_is_one_of_four() -> None:
    with pytest.raises(
        PoolError, match="lane of model 'a' must be one of standard, batch, flex, priority; got 'slow'"
    ):
        LLM("a", 1, 2, lane="slow")


def test_a_query_that_allows_a_model_allows_every_effort_of_it() -> None:
    class Certain:
        models = ("o3@low", "o3@high", "a")

        def predict(self, queries: list[Query]) -> Prediction:
            quality = np.tile(np.array([0.5, 0.95, 0.97], dtype=np.float32), (len(queries), 1))
            tokens, zeros = np.full_like(quality, 100.0), np.zeros_like(quality)
            return Prediction(self.models, quality, tokens, zeros, zeros, np.full(len(queries), 10))

    router = Router(Pool([LOW, HIGH, LLM("a", 0.1, 0.1)]), Certain(), Policy(min_quality=0.9))
    plan = router.route([Query("x", models=("o3",)), Query("x", models=("o3@low", "a"))])
    assert [row.model for row in plan] == ["o3@high", "a"]
    with pytest.raises(QueryError, match="'o4', which is not in the pool"):
        router.route([Query("x", models=("o4",))])


@pytest.mark.parametrize(
    ("name", "loose", "strict"),
    [
        ("o3@low", "o3@low", "o3@low"),
        ("openai/o3@high", "o3@high", "o3@high"),
        ("o3 (high)", "o3@high", "o3@high"),
        ("o3", None, None),  # which of the two is not told
        ("o3@medium", None, None),
        ("gpt-5.4", "gpt-5.4", "gpt-5.4"),
        ("gpt-5.4@none", "gpt-5.4", "gpt-5.4"),  # where nobody says, it works at none
        ("gpt-5.4@high", "gpt-5.4", None),
        ("gpt-5-mini", "gpt-5-mini", "gpt-5-mini"),  # in one lane alone
        ("gpt-5-mini@batch", "gpt-5-mini", "gpt-5-mini"),
        ("anthropic/claude-sonnet-4-5-20250929", "claude-sonnet-4.5", "claude-sonnet-4.5"),
        ("zz@low", None, None),
        ("", None, None),
    ],
)
def test_a_name_means_the_column_at_its_effort_and_in_its_lane(
    name: str, loose: str | None, strict: str | None
) -> None:
    pool = Pool.of("o3@low", "o3@high", "gpt-5.4", "gpt-5-mini@batch", "claude-sonnet-4.5")
    found = [find_column(name, pool), find_column(name, pool, strict=True)]
    assert [None if at < 0 else pool.names[at] for at in found] == [loose, strict]


@pytest.mark.parametrize("text", ["o3", "o3@low", "o3@batch", "o3@high@flex", "claude-opus-4@20250514"])
def test_options_are_split_and_joined_again(text: str) -> None:
    assert join_options(*split_options(text)) == text

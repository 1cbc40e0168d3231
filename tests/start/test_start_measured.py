"""What a log counts is measured, not forecast: today's spend, and lengths, also of the other models."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from eccos_rs import Pool, PoolError, Router
from eccos_rs.predict.prior.learned import LearnedPredictor
from eccos_rs.start.asking import GradedAnswers
from eccos_rs.start.learning import learn_answers
from eccos_rs.start.log import read_log
from eccos_rs.start.measured import sum_counts, update_lengths
from eccos_rs.start.options import StartOptions
from eccos_rs.start.outlook import build_traffic
from eccos_rs.start.report import plan_lines
from eccos_rs.start.run import Start, start
from tests.helpers.grading import log_file, question

if TYPE_CHECKING:
    from pathlib import Path

SENT, ANSWER = 900, 2_500


def pool() -> Pool:
    return Pool.of("gpt-5-mini", "claude-haiku-4.5", "claude-sonnet-4.5")


def logged(path: Path, count: int = 120, **more: object) -> Path:
    """Write a log of one model's requests, all longer than a forecast would say."""
    usage = {"prompt_tokens": SENT, "completion_tokens": ANSWER}
    return log_file(path, count, **{"model": "openai/gpt-5-mini", "usage": usage, **more})


def test_todays_spend_is_measured(tmp_path):
    steps = Start(logged(tmp_path / "log.jsonl"), pool(), StartOptions())
    model = pool()["gpt-5-mini"]
    spent = 120 * (SENT * model.input_price + ANSWER * model.output_price) / 1e6
    assert steps.plan.measured == 1.0
    assert steps.plan.reference.name == "gpt-5-mini"
    assert steps.plan.traffic.paid[:, 0].sum() == pytest.approx(spent)
    told = steps.plan.to_dict()["measured"]
    assert told["models"]["gpt-5-mini"]["cost_usd"] == pytest.approx(spent)
    lines = "\n".join(plan_lines(steps.plan))
    assert "measured, gpt-5-mini: 120 answers of 2,500 tokens to prompts of 900 on average" in lines
    assert "today's spend is measured for 100% of the requests" in lines


def test_counts_of_one_model_teach_the_lengths_of_all(tmp_path):
    """The traffic is foreign, so that what one model writes on it speaks of the others too."""
    rows = [
        {"model": "gpt-5-mini", "usage": {"prompt_tokens": SENT, "completion_tokens": tokens},
         "messages": [{"role": "user", "content": f"zq {number} vrx kpl {number % 7} wqe"}]}
        for number in range(120) for tokens in [40]
    ]  # fmt: skip
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    log, router = read_log(path, sample=500), Router.day_one(pool(), device="cpu")
    before = build_traffic(log, router).prediction
    update_lengths(router, log)
    after = build_traffic(log, router).prediction
    assert after.output_tokens[:, 0].mean() == pytest.approx(40, rel=0.25)
    assert (after.output_tokens[:, 1:].mean(axis=0) < 0.6 * before.output_tokens[:, 1:].mean(axis=0)).all()
    assert after.quality == pytest.approx(before.quality, abs=1e-6)
    assert after.shared.length[0] < before.shared.length[0]
    row = router.knowledge()[0]
    assert (row.labels, row.tells_apart, row.tokens) == (0, False, "counts")


def test_a_measured_spend_has_no_interval_of_its_own(tmp_path):
    counted, plain = tmp_path / "counted.jsonl", tmp_path / "plain.jsonl"
    with_counts = Start(logged(counted), pool(), StartOptions()).plan.outlook
    without = Start(logged(plain, usage=None), pool(), StartOptions()).plan.outlook
    assert (
        without.verdict.cost.high - without.verdict.cost.low > 0.0 or without.spend.high > without.spend.low
    )
    width = [each.spend.high / each.spend.low for each in (with_counts, without)]
    assert width[0] < 0.5 * width[1]


def test_a_log_that_names_nobody_of_the_pool_measures_nothing(tmp_path):
    steps = Start(logged(tmp_path / "log.jsonl", model="gpt-4-turbo"), pool(), StartOptions())
    assert steps.plan.measured == 0.0
    assert steps.plan.traffic.counted == {}
    assert "measured" not in "\n".join(plan_lines(steps.plan))
    assert not isinstance(steps.router.predictor, LearnedPredictor)


def test_each_effort_is_counted_for_itself(tmp_path):
    efforts = Pool.of("o3@low", "o3@high", "gpt-5-mini")
    path = tmp_path / "log.jsonl"
    rows = [
        {"model": "o3", "reasoning_effort": effort, "query": question(number),
         "usage": {"prompt_tokens": 50, "completion_tokens": tokens}}
        for effort, tokens in (("low", 100), ("high", 3_000)) for number in range(30)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = sum_counts(read_log(path, sample=500).entries, efforts)
    assert {name: each.used.means[1] for name, each in found.items()} == {"o3@low": 100, "o3@high": 3_000}


def test_a_pool_of_one_model_is_refused_before_anything_is_asked(tmp_path):
    with pytest.raises(PoolError, match="holds 'gpt-5-mini' alone, so there is nothing to choose between"):
        start(logged(tmp_path / "log.jsonl"), Pool.of("gpt-5-mini"), tmp_path / "out")


def test_what_one_part_teaches_does_not_reach_the_forecasts_of_another(tmp_path):
    """A router that has learned before is sharpened as a copy: its own forecasts stay."""
    log, router = (
        read_log(logged(tmp_path / "log.jsonl", 60), sample=60),
        Router.day_one(pool(), device="cpu"),
    )
    update_lengths(router, log)
    traffic, base = build_traffic(log, router), router.predictor
    assert isinstance(base, LearnedPredictor)
    ones = np.zeros((60, 3))
    learned = learn_answers(
        base, traffic, GradedAnswers(ones, ones + 9, ones, np.zeros(60, dtype=bool)), range(60)
    )
    queries = [entry.query for entry in log.entries]
    assert base.predict(queries).quality == pytest.approx(traffic.quality, abs=1e-6)
    assert learned.predict(queries).quality.mean() < traffic.quality.mean() - 0.1
    assert set(base.labels.values()) == {0}

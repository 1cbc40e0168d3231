"""What is known of a model from the published scores that ship."""

from __future__ import annotations

import math

import numpy as np
import pytest

from eccos_rs import LLM
from eccos_rs.catalogue.factor import fit_columns, strength
from eccos_rs.catalogue.scores import benchmarks, knowledge
from eccos_rs.errors import PoolError


def test_a_measured_model_keeps_its_own_scores() -> None:
    known = knowledge("gpt-4o-2024-05-13")
    assert known.basis == "category scores"
    assert known.note == ""
    score = known.scores["mmlu_pro/law"]
    assert score.kind == "answers"
    assert known.expected("mmlu_pro/law").value == pytest.approx(score.value, abs=0.02)
    assert known.level_sd < 0.1


def test_of_a_model_no_board_lists_nothing_is_claimed() -> None:
    known = knowledge("no-such-model-9000")
    assert known.basis == "nothing"
    assert known.spellings == ()
    assert known.level_sd == 0.65
    assert known.mean_tokens is None


def test_a_filled_score_is_less_sure_than_a_measured_one() -> None:
    known = knowledge("openai/gpt-5-mini")
    assert known.basis == "other benchmarks"
    filled, measured = known.expected("math_l5"), known.expected("livebench/coding")
    assert filled.kind == "filled"
    assert measured.kind == "board"
    assert 0.3 < filled.sd <= 0.65
    assert measured.sd < 0.1


def test_stronger_models_are_expected_to_score_higher() -> None:
    names = ("llama-3.1-8b-instruct", "gpt-4o-mini", "gpt-5-mini", "claude-opus-4.8")
    levels = [knowledge(name).level for name in names]
    assert levels == sorted(levels)


def test_own_scores_go_first_and_move_what_is_filled() -> None:
    weak, strong = (
        knowledge("my-model", scores={"mmlu_pro": value}, mean_tokens=420) for value in (0.4, 0.8)
    )
    assert strong.basis == "overall score"
    assert strong.mean_tokens == 420
    assert strong.expected("mmlu_pro").value == pytest.approx(0.8, abs=0.03)
    assert strong.expected("gsm8k").value > weak.expected("gsm8k").value
    assert strong.level_sd < 0.2


def test_what_is_left_out_does_not_tell() -> None:
    with_it, without = knowledge("gpt-4o-2024-05-13"), knowledge("gpt-4o-2024-05-13", without=["mmlu-pro"])
    assert without.basis != "category scores"
    assert without.level_sd > with_it.level_sd
    assert not any(score.source == "mmlu-pro" for score in without.scores.values())


def test_another_effort_is_told_and_widens() -> None:
    known = knowledge("gpt-5.4", effort="low")
    assert known.note == "effort medium" or known.note.startswith("effort ")
    assert (
        known.scores["livebench/coding"].sd
        > knowledge("gpt-5.4", effort="high").scores["livebench/coding"].sd
    )


@pytest.mark.parametrize("name", ["gpt-4o", "o3", "qwen3-32b", "no-such-model"])
def test_every_benchmark_has_an_expectation_in_range(name: str) -> None:
    known = knowledge(name)
    for benchmark in benchmarks():
        score = known.expected(benchmark)
        assert 0 < score.value < 1
        assert 0 < score.sd < 2.5
        assert math.isfinite(score.log_odds)


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(KeyError, match="no board lists"):
        knowledge("gpt-4o").expected("no_such_benchmark")


def test_a_model_newer_than_the_table_is_known_by_its_predecessor_and_says_so() -> None:
    known = knowledge("anthropic/claude-opus-5.5")
    assert known.basis.startswith("predecessor ")
    assert "predecessor" in known.note
    assert 0.4 < known.level_sd < 0.6
    assert known.level > knowledge("claude-haiku-4.5").level


def test_a_price_alone_says_little_but_something() -> None:
    cheap, dear = (knowledge(LLM("none-such", 1.0, price)) for price in (0.2, 40.0))
    assert cheap.basis == dear.basis == "price"
    assert dear.level > cheap.level
    assert dear.level_sd > 0.5
    assert knowledge(LLM("none-such", 0, 0)).basis == "nothing"


def test_scores_of_the_pool_go_first_and_a_vendors_are_less_sure() -> None:
    own, vendor = (
        knowledge(LLM("m", 1, 2, scores={"MMLU-Pro": 0.8}, scores_source=source, mean_tokens=77))
        for source in ("own harness", "vendor")
    )
    assert own.scores["mmlu_pro"].value == vendor.scores["mmlu_pro"].value == 0.8
    assert own.level_sd < vendor.level_sd
    assert own.mean_tokens == 77


def test_a_name_that_moves_is_the_release_that_the_catalogue_says() -> None:
    known = knowledge("mistral-large-latest")
    assert known.note.startswith("release ")
    assert min(score.sd for score in known.scores.values()) > 0.4


def test_the_default_effort_of_the_catalogue_is_asked_for() -> None:
    untold, none = knowledge("gpt-5.4-mini"), knowledge("gpt-5.4-mini", effort="none")
    assert untold.level == none.level < knowledge("gpt-5.4-mini", effort="high").level


def test_contradicting_scores_move_the_strength_little() -> None:
    """A broken column must not drag the others along: the errors have heavy tails."""
    fair = knowledge("m", scores={"gsm8k": 0.95, "math_l5": 0.6, "mmlu_pro": 0.75, "livebench/coding": 0.6})
    broken = knowledge(
        "m", scores={"gsm8k": 0.95, "math_l5": 0.6, "mmlu_pro": 0.75, "livebench/coding": 0.6, "gpqa": 0.01}
    )
    assert abs(broken.strength.theta - fair.strength.theta) < 0.25


def test_a_model_that_thinks_is_expected_to_write_more() -> None:
    none, high = (knowledge("gpt-5.4", effort=effort).expected_tokens()[0] for effort in ("none", "high"))
    assert high > 3 * none


def test_counts_of_the_same_benchmark_are_surer_than_those_of_another() -> None:
    known = knowledge("gpt-4o-2024-05-13")
    assert known.expected_tokens("gsm8k") == (known.tokens["gsm8k"], 0.15)
    assert known.mean_tokens == known.tokens["mmlu_pro"]
    elsewhere = knowledge("o3")
    assert elsewhere.mean_tokens is not None
    assert 0.2 < elsewhere.expected_tokens("gsm8k")[1] < knowledge("no-such").expected_tokens("gsm8k")[1]
    assert elsewhere.mean_tokens < elsewhere.tokens["aider_polyglot/completion_tokens_per_case"]


def test_ones_own_mean_of_tokens_goes_first() -> None:
    known = knowledge("o3", mean_tokens=420)
    assert known.mean_tokens == 420
    assert known.expected_tokens()[0] == pytest.approx(420, rel=0.1)


SUBJECTS = [name for name in benchmarks() if name.startswith("mmlu_pro/")]


def test_an_overall_score_far_from_its_categories_is_told_and_widens() -> None:
    fair = knowledge("m", scores={"mmlu_pro": 0.8, **dict.fromkeys(SUBJECTS, 0.78)})
    torn = knowledge("m", scores={"mmlu_pro": 0.9, **dict.fromkeys(SUBJECTS, 0.1)})
    assert fair.note == ""
    assert "scores contradict: mmlu_pro is 0.90, its 14 categories are 0.10 on average" in torn.note
    assert fair.level_sd < 0.2
    assert torn.level_sd > 2.0


def test_a_few_categories_may_lie_off_the_whole() -> None:
    assert knowledge("m", scores={"mmlu_pro": 0.8, "mmlu_pro/law": 0.3, "mmlu_pro/math": 0.35}).note == ""


def test_a_score_far_from_what_is_published_of_the_same_model_is_told() -> None:
    fair, torn = (knowledge("gpt-4o-2024-05-13", scores={"mmlu_pro": value}) for value in (0.7, 0.3))
    assert fair.doubts == ()
    assert torn.doubts == ("scores contradict: mmlu_pro is 0.30, mmlu-pro has 0.74",)
    assert torn.level_sd > 3 * fair.level_sd
    # What is published of another release is no contradiction.
    assert knowledge("gpt-4o-2024-11-20", scores={"mmlu_pro": 0.3}).doubts == ()


def test_scores_of_no_board_are_no_knowledge() -> None:
    known = knowledge("no-such-model", scores={"our_helpdesk": 0.9, "mmlu_proo": 0.8})
    assert (known.basis, known.level_sd) == ("nothing", 0.65)


@pytest.mark.parametrize(
    ("scores", "sentence"),
    [
        ({"mmlu_pro": 81}, "as a percentage it would be 0.81"),
        ({"mmlu_pro": math.nan}, "got nan"),
        ({"mmlu_pro": 0.8, "MMLU-Pro": 0.7}, "'mmlu_pro' and 'MMLU-Pro' are one benchmark"),
    ],
)
def test_scores_that_are_no_shares_are_refused(scores: dict[str, float], sentence: str) -> None:
    with pytest.raises(PoolError, match=sentence):
        knowledge("gpt-4o", scores=scores)


@pytest.mark.parametrize(("models", "least"), [(1, 1), (1, 5), (2, 5)])
def test_a_table_of_one_model_tells_nothing_apart(models: int, least: int) -> None:
    model, column = (each.ravel() for each in np.mgrid[:models, :8])
    odds = np.linspace(-1, 1, 8)[column]
    fitted, theta = fit_columns(model, column, odds, np.zeros_like(column), least=least)
    assert theta == pytest.approx(np.zeros(models), abs=0.2)
    told = strength(fitted, column[:8], odds[:8], np.zeros(8, dtype=int))
    assert told.theta == pytest.approx(0.0, abs=0.2)
    assert 0.5 < told.sd <= 1.0

"""An exam carries a few answers to the whole board by what the known models answered."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from eccos_rs.catalogue.exam import Board, boards, question_key, scores_of_answers


def drawn(board: Board, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(board.category == k) for k in range(len(board.categories))]
    return np.concatenate(
        [rng.choice(r, round(n * len(r) / len(board.category)), replace=False) for r in rows]
    )


def test_the_boards_that_ship() -> None:
    board = boards()["mmlu_pro"]
    assert board.right.shape == (len(board.keys), len(board.models))
    assert len(board.keys) > 7000
    assert len(board.categories) == 14
    assert set(boards()) == {"mmlu_pro", "gsm8k", "math_l5"}
    assert boards()["gsm8k"].right.mean() > 0.7


@pytest.mark.parametrize("name", ["gpt-4o-2024-05-13", "Meta-Llama-3.1-8B-Instruct", "Qwen1.5-7B-Chat"])
def test_500_questions_place_a_model_that_is_not_among_the_known(name: str) -> None:
    board = boards()["mmlu_pro"]
    at = board.models.index(name)
    truth = board.right[:, at].astype(float)
    rest = replace(board, right=np.delete(board.right, at, axis=1))
    told, plain = [], []
    for seed in range(3):
        rows = drawn(board, 500, seed)
        found = scores_of_answers(rest, rows, truth[rows])
        assert found.scores["mmlu_pro"] == pytest.approx(truth.mean(), abs=0.05)
        for k, category in enumerate(board.categories):
            part = board.category == k
            told.append(abs(found.scores[category] - truth[part].mean()))
            plain.append(abs(truth[rows[board.category[rows] == k]].mean() - truth[part].mean()))
    assert np.mean(told) < 0.043
    assert np.mean(told) < 0.8 * np.mean(plain)


def test_more_questions_make_it_surer() -> None:
    board = boards()["mmlu_pro"]
    truth = board.right[:, 0].astype(float)
    few, many = (scores_of_answers(board, drawn(board, n, 0), truth[drawn(board, n, 0)]) for n in (100, 2000))
    assert all(many.sd[key] < few.sd[key] for key in few.sd)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_all_wrong_and_all_right_stay_finite(value: float) -> None:
    board = boards()["mmlu_pro"]
    rows = drawn(board, 100, 1)
    found = scores_of_answers(board, rows, np.full(len(rows), value))
    assert all(0 < score < 1 for score in found.scores.values())
    assert all(np.isfinite(sd) for sd in found.sd.values())
    assert abs(found.scores["mmlu_pro"] - value) < 0.1


def test_a_question_is_known_whatever_its_spaces_and_signs() -> None:
    assert question_key("What is  2+2?", ["Four", "Five"]) == question_key("what is 2 + 2 ?", [" four. "])
    assert question_key("What is 2+2?") != question_key("What is 2+3?")

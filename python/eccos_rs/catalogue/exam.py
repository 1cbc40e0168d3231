"""An exam in place of labels: a model's own score on every category of a board, from a few of its questions.

What ships (`data/exam.npz`) is which of the board's questions each known model answered well, bits beside a
hash of the question, no text. A model that answered some of the questions is carried to the whole board by
the known models' answers to the same questions (a control variate): its log odds are a line over theirs,
plus what each category shows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from eccos_rs.catalogue.factor import log_odds, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Board", "ExamScores", "boards", "question_key", "scores_of_answers"]

_CATEGORY_SD = 0.5
"""Log odds by which a category may differ for one model from what its strength says."""
_SLOPE = (1.0, 0.2)
"""Mean and standard deviation of the slope over the known models' log odds."""
_WIDTH, _RIDGE = 1.0, 0.5
"""Reach in log odds of the known models that count, and the ridge on the line through them."""
_EDGE = 0.03
_ROUNDS = 4


@dataclass(frozen=True, slots=True)
class Board:
    """The known models' answers to the questions of one benchmark.

    Parameters
    ----------
    name : str
    keys : ndarray of uint64, shape (Q,)
        Hash of each question, as `question_key` makes it.
    category : ndarray of uint8, shape (Q,)
        Index into `categories`.
    categories : tuple of str
        Names as scores carry them (``"mmlu_pro/law"``).
    right : ndarray of bool, shape (Q, K)
        Who of the known models answered it well.
    models : tuple of str
        The K known models.
    """

    name: str
    keys: NDArray[np.uint64]
    category: NDArray[np.uint8]
    categories: tuple[str, ...]
    right: NDArray[np.bool_]
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ExamScores:
    """What an exam says of a model.

    Parameters
    ----------
    scores : dict of str to float
        Share answered well of the whole board and of each of its categories.
    sd : dict of str to float
        Standard deviation of the log odds of each.
    answered : int
        Questions that it rests on.
    """

    scores: dict[str, float]
    sd: dict[str, float]
    answered: int


def question_key(question: str, choices: Sequence[str] = ()) -> int:
    """Return the hash by which a question is known: letters and digits of its text and its first option."""
    text = question + (choices[0] if choices else "")
    squeezed = "".join(letter for letter in text.lower() if letter.isalnum())
    return int.from_bytes(hashlib.blake2b(squeezed.encode(), digest_size=8).digest(), "big")


@lru_cache(maxsize=1)
def boards() -> dict[str, Board]:
    """Return the boards that ship, by name."""
    with np.load(str(files("eccos_rs.catalogue").joinpath("data/exam.npz"))) as raw:
        found = {}
        for name in raw["boards"].tolist():
            models = tuple(raw[f"{name}.models"].tolist())
            bits = np.unpackbits(raw[f"{name}.right"], axis=1, count=len(models)).astype(np.bool_)
            found[name] = Board(
                name,
                raw[f"{name}.keys"],
                raw[f"{name}.category"],
                tuple(raw[f"{name}.categories"].tolist()),
                bits,
                models,
            )
    return found


def scores_of_answers(
    board: Board,
    rows: NDArray[np.intp],
    quality: NDArray[np.float64],
    *,
    category_sd: float = _CATEGORY_SD,
) -> ExamScores:
    """Carry a model's answers to some questions of a board to the whole of it.

    Parameters
    ----------
    board : Board
    rows : ndarray of int, shape (n,)
        Which of the board's questions it answered.
    quality : ndarray, shape (n,)
        How well, in [0, 1].
    category_sd : float
        Log odds by which a category may differ from what the model's strength says.

    Returns
    -------
    ExamScores
    """
    theta = log_odds(board.right.mean(axis=0))
    onehot = np.eye(len(board.categories))[board.category]
    level = float(np.mean(quality))
    prior_sd = np.concatenate(([10.0, _SLOPE[1]], np.full(len(board.categories), category_sd)))
    centre = np.concatenate(([0.0, _SLOPE[0]], np.zeros(len(board.categories))))
    odds, design, covariance = np.zeros(len(board.keys)), np.zeros((0, 0)), np.zeros((0, 0))
    for _ in range(_ROUNDS):
        curve = board.right @ _line(theta, float(log_odds(level)))
        difficulty = log_odds(np.clip(curve, _EDGE, 1 - _EDGE))
        design = np.column_stack([np.ones(len(curve)), difficulty, onehot])
        beta, covariance = _ridge_logistic(design[rows], quality, prior_sd**-2, centre)
        odds = design @ beta
        level = float(np.mean(share(odds)))
    success = share(odds)
    parts = {board.name: np.ones(len(odds), dtype=np.bool_)}
    if len(board.categories) > 1:
        parts |= {name: board.category == at for at, name in enumerate(board.categories)}
    scores, sd = {}, {}
    for name, part in parts.items():
        mean = float(success[part].mean())
        slope = (success * (1 - success))[part] @ design[part] / part.sum()
        scores[name] = mean
        sd[name] = float(np.sqrt(slope @ covariance @ slope) / max(mean * (1 - mean), 1e-3))
    return ExamScores(scores, sd, len(rows))


def _line(theta: NDArray[np.float64], at: float) -> NDArray[np.float64]:
    """Return weights over the known models whose weighted answers are those of a model of strength `at`."""
    kernel = np.exp(-0.5 * ((theta - at) / _WIDTH) ** 2) + 1e-3
    design = np.column_stack([np.ones_like(theta), theta - at])
    inner = design.T @ (kernel[:, None] * design) + np.diag([1e-6, _RIDGE])
    weights = np.linalg.solve(inner, design.T * kernel)[0]
    return np.asarray(weights / weights.sum())


def _ridge_logistic(
    x: NDArray[np.float64], y: NDArray[np.float64], pull: NDArray[np.float64], centre: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the coefficients of greatest posterior density and their covariance."""
    beta = centre.copy()
    for _ in range(50):
        p = share(np.clip(x @ beta, -30, 30))
        curvature = (x * (p * (1 - p))[:, None]).T @ x + np.diag(pull)
        move = np.linalg.solve(curvature, x.T @ (p - y) + pull * (beta - centre))
        # Steps are bounded: far from the optimum Newton overshoots.
        beta = beta - move * min(1.0, 2.0 / max(float(np.abs(move).max()), 1e-12))
        if np.abs(move).max() < 1e-8:
            break
    return beta, np.asarray(np.linalg.inv(curvature), dtype=np.float64)

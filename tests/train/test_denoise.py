"""Labels are moved towards what other models' answers say only where observed labels gain by it."""

from __future__ import annotations

import numpy as np
import pytest

from eccos_rs.errors import InputError
from eccos_rs.predict.features import FEATURE_NAMES
from eccos_rs.records import RecordTable
from eccos_rs.train.card import describe_shares
from eccos_rs.train.data import TrainingData
from eccos_rs.train.denoise import choose_shares, denoise_labels, expected_labels
from eccos_rs.train.options import TrainOptions

torch = pytest.importorskip("torch", reason="training needs torch (the extra `train`)")

MODELS = ("a", "b", "c", "d", "e", "f")
ALL = 30
ROWS, TOPICS = 480, 60


def training_data(outcomes: np.ndarray, dataset: list[str]) -> TrainingData:
    """The first models are the pool's, further ones auxiliary."""
    quality, aux = outcomes[:, : len(MODELS)], outcomes[:, len(MODELS) :].astype(np.float32)
    rows, models = quality.shape
    tokens = np.full(quality.shape, 50, dtype=np.float32)
    table = RecordTable(
        [f"query number {row}" for row in range(rows)], dataset, [None] * rows, MODELS[:models],
        quality.astype(np.float32), tokens, np.full(rows, 20), np.full(quality.shape, 1e-5),
    )  # fmt: skip
    names = tuple(f"aux{column}" for column in range(aux.shape[1]))
    return TrainingData(table, np.log1p(tokens), np.arange(rows), aux, np.full_like(aux, 4.0), names)


def states(meaning: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What an encoder would say of texts: their meaning turned at random, and noise."""
    from eccos_rs.train.encoder import WIDTH

    width = 2 * WIDTH + len(FEATURE_NAMES)
    turned = meaning @ rng.normal(size=(meaning.shape[1], width))
    return (turned + 0.5 * rng.normal(size=turned.shape)).astype(np.float32)


def formats(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A parser's world: the format decides, without a coin; on two formats ``a`` differs from the others."""
    kind = rng.choice(4, size=ROWS, p=[0.35, 0.35, 0.15, 0.15])
    others = np.array([1, 0, 0, 1])[kind]
    quality = np.repeat(others[:, None], ALL, axis=1)
    quality[:, 0] = np.array([1, 0, 1, 0])[kind]
    return np.eye(4)[kind], quality


def coins(rng: np.random.Generator, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """An exam's world: how hard a topic is decides the odds of every model, and coins the rest."""
    topic = rng.integers(TOPICS, size=rows)
    hard = rng.normal(size=TOPICS)[topic]
    odds = 1 / (1 + np.exp(-1.5 * hard[:, None] + rng.normal(scale=0.3, size=ALL)))
    return 3 * np.eye(TOPICS)[topic], rng.random(odds.shape) < odds


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_share_follows_from_the_data(seed):
    from eccos_rs.train.context import prepare

    rng = np.random.default_rng(seed)
    for world, wanted in ((formats, {0.0}), (coins, {0.4, 0.8})):
        meaning, quality = world(rng)
        data = training_data(quality, ["one"] * ROWS)
        context = prepare(data, states(meaning, rng), TrainOptions())
        assert context.shares["one"] in wanted, world.__name__
        moved = np.abs(context.denoised.success - data.quality).max()
        assert (moved > 0.1) == (world is coins)


def test_each_dataset_has_its_own_share():
    from eccos_rs.train.context import prepare

    rng = np.random.default_rng(3)
    (parsed, right), (asked, passed) = formats(rng), coins(rng, 3 * ROWS)
    meaning = np.zeros((4 * ROWS, 4 + TOPICS))
    meaning[:ROWS, :4], meaning[ROWS:, 4:] = 3 * parsed, asked
    data = training_data(np.concatenate([right, passed]), ["logs"] * ROWS + ["exam"] * 3 * ROWS)
    context = prepare(data, states(meaning, rng), TrainOptions())
    assert context.shares["logs"] < context.shares["exam"]
    logs = np.array(data.table.dataset) == "logs"
    np.testing.assert_array_equal(
        context.denoised.success[logs], denoise_labels(data, context.shares["logs"])[logs]
    )


def test_a_fixed_share_is_taken_for_every_dataset():
    from eccos_rs.train.context import prepare

    rng = np.random.default_rng(4)
    meaning, quality = coins(rng)
    data = training_data(quality, ["x", "y"] * (ROWS // 2))
    context = prepare(data, states(meaning, rng), TrainOptions(teacher_share=0.4))
    assert context.shares == {"x": 0.4, "y": 0.4}
    np.testing.assert_array_equal(context.denoised.success, denoise_labels(data, 0.4))
    halfway = (denoise_labels(data, 0.0) + denoise_labels(data, 0.8)) / 2
    np.testing.assert_allclose(context.denoised.success, halfway, atol=1e-6)


def test_where_nothing_can_be_expected_nothing_is_moved():
    """Two models tell too little of each other; then no forecast has to be made either."""
    rng = np.random.default_rng(5)
    data = training_data(rng.random((200, 2)) < 0.5, ["all"] * 200)

    def never(labels):
        raise AssertionError("nothing to compare")

    assert choose_shares(data, expected_labels(data), never) == {"all": 0.0}


@pytest.mark.parametrize("share", [-0.1, 1.1, "half", float("nan")])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(InputError, match="teacher_share: got"):
        TrainOptions(teacher_share=share)


def test_the_card_says_how_far_labels_were_moved():
    assert describe_shares({"a": 0.0, "b": 0.0}) == "Labels are as observed."
    assert describe_shares({"a": 0.8}).startswith("Labels are moved 80% of the way")
    mixed = describe_shares({"a": 0.8, "b": 0.8, "logs": 0.0})
    assert mixed.endswith("answered the same query; not at all for logs.")
